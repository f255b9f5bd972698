package kernels

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Level is a set of instructions that the kernels may use. One is chosen when the program
// starts: the best that the processor and the operating system offer, or the one that the
// environment variable AKIDB_SIMD names.
type Level uint8

// A level has everything that the one before it has, on the same architecture. Each is gated on
// every feature its files use.
const (
	Generic     Level = iota // portable Go, everywhere; the only one with the build tag noasm
	AVX2                     // amd64: AVX2, FMA, F16C, BMI1, BMI2, POPCNT
	AVX512                   // amd64: and AVX-512 F, BW, VL, DQ
	AVX512VNNI               // amd64: and AVX-512 VBMI, VNNI
	NEON                     // arm64: ASIMD
	NEONDotProd              // arm64: and ASIMDDP
)

var levelNames = [...]string{"generic", "avx2", "avx512", "avx512vnni", "neon", "neon-dotprod"}

// levelVariable names the level to use instead of the best.
const levelVariable = "AKIDB_SIMD"

var (
	level      Level
	levelError error
)

func init() { level, levelError = chooseLevel(os.Getenv(levelVariable)) }

// chooseLevel returns the level called name, or the best one for an empty name.
func chooseLevel(name string) (Level, error) {
	available := Levels()
	if name == "" {
		return available[len(available)-1], nil
	}
	chosen, err := ParseLevel(name)
	if err == nil {
		err = checkAvailable(chosen)
	}
	if err != nil {
		return Generic, fmt.Errorf("%s: %w", levelVariable, err)
	}
	return chosen, nil
}

// LevelError is what is wrong with AKIDB_SIMD: it names a level that does not exist, or that this
// machine lacks. Nil if all is well. A program reports it at its start and ends, because the
// operator asked for something that they do not get; the kernels are generic then.
func LevelError() error { return levelError }

// ActiveLevel is the name of the level in use, for logs and metrics.
func ActiveLevel() string { return level.String() }

// Levels returns the levels that this build and this machine can use, from Generic to the best.
func Levels() []Level { return append([]Level{Generic}, machineLevels()...) }

// ParseLevel is the inverse of Level.String.
func ParseLevel(name string) (Level, error) {
	if i := slices.Index(levelNames[:], name); i >= 0 {
		return Level(i), nil
	}
	return Generic, fmt.Errorf("level %q: want one of %s", name, strings.Join(levelNames[:], ", "))
}

// SetLevel makes the kernels use a level, for tests and benchmarks. It must not run beside a
// kernel.
func SetLevel(l Level) error {
	if err := checkAvailable(l); err != nil {
		return err
	}
	level = l
	return nil
}

// String is the name that AKIDB_SIMD and logs use.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level %d", uint8(l))
}

func checkAvailable(l Level) error {
	available := Levels()
	if slices.Contains(available, l) {
		return nil
	}
	return fmt.Errorf("level %q: this machine has %v", l, available)
}
