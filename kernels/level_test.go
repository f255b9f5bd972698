package kernels

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// everyLevel runs a check at each level of this machine and names the one that fails.
func everyLevel(check func() error) error {
	defer func(before Level) { level = before }(level)
	for _, l := range Levels() {
		level = l
		if err := check(); err != nil {
			return fmt.Errorf("level %v: %w", l, err)
		}
	}
	return nil
}

// everyPlace runs a check with an argument where it is, which may be misaligned, and at the end
// of a page.
func everyPlace[T any](argument string, values []T, check func(values []T) error) error {
	if err := check(values); err != nil {
		return err
	}
	if err := check(atGuard(argument, values)); err != nil {
		return fmt.Errorf("at the end of a page: %w", err)
	}
	return nil
}

func TestEnvironmentNamesALevelOfThisMachine(t *testing.T) {
	if err := LevelError(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v of %v", ActiveLevel(), Levels())
}

func TestLevelsBeginWithGeneric(t *testing.T) {
	levels := Levels()
	if levels[0] != Generic || !slices.IsSorted(levels) {
		t.Errorf("levels %v, want generic and then better ones", levels)
	}
}

func TestChooseLevel(t *testing.T) {
	best := Levels()[len(Levels())-1]
	if got, err := chooseLevel(""); got != best || err != nil {
		t.Errorf("without a name: level %v, error %v, want %v", got, err, best)
	}
	for _, l := range Levels() {
		if got, err := chooseLevel(l.String()); got != l || err != nil {
			t.Errorf("level %v: got %v, error %v", l, got, err)
		}
	}
	got, err := chooseLevel("avx3")
	if got != Generic || err == nil || !strings.Contains(err.Error(), `AKIDB_SIMD: level "avx3": want one of generic, avx2`) {
		t.Errorf("an unknown level: got %v, error %v", got, err)
	}
}

func TestALevelOfAnotherMachineIsRefused(t *testing.T) {
	foreign := Level(0)
	for l := range Level(len(levelNames)) {
		if !slices.Contains(Levels(), l) {
			foreign = l
		}
	}
	if foreign == Generic {
		t.Fatal("a machine with the instructions of two architectures")
	}
	before := level
	if err := SetLevel(foreign); err == nil || !strings.Contains(err.Error(), "this machine has [generic") {
		t.Errorf("level %v was set, error %v", foreign, err)
	}
	if level != before {
		t.Errorf("level %v after a refusal, want %v", level, before)
	}
	if got, err := chooseLevel(foreign.String()); got != Generic || err == nil {
		t.Errorf("level %v was chosen as %v, error %v", foreign, got, err)
	}
}

func TestLevelNames(t *testing.T) {
	for l := range Level(len(levelNames)) {
		if got, err := ParseLevel(l.String()); got != l || err != nil {
			t.Errorf("level %v: parsed as %v, error %v", l, got, err)
		}
	}
	if got := Level(200).String(); got != "level 200" {
		t.Errorf("got %q", got)
	}
	if err := SetLevel(Level(200)); err == nil {
		t.Error("level 200 was set")
	}
}

func TestEveryLevelCatchesALevelThatDiffers(t *testing.T) {
	if len(Levels()) == 1 {
		t.Skip("only the generic level here")
	}
	random := rand.New(rand.NewPCG(20, 1))
	query, row := normals(random, 9), normals(random, 9)
	planted := rowsKernels[0]
	planted.rows = func(query, rows, out []float32) {
		L2Rows(query, rows, out)
		if level == Levels()[1] {
			out[0] *= 1.0001
		}
	}
	if err := planted.check(query, row, nil); err == nil || !strings.Contains(err.Error(), Levels()[1].String()) {
		t.Errorf("a wrong result at level %v was reported as %v", Levels()[1], err)
	}
}
