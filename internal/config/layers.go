package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/akidb/akidb/internal/nearest"
)

// fileVariable names the file when --config does not.
const fileVariable = "AKIDB_CONFIG"

// otherVariables have our prefix and are not settings of a server: the file, the
// level of the kernels, and what the client commands read. An unset or
// empty variable counts as absent.
var otherVariables = []string{fileVariable, "AKIDB_SIMD", "AKIDB_URL", "AKIDB_API_KEY"}

// testPrefix is for the tests' own variables.
const testPrefix = "AKIDB_TEST_"

type setting struct{ text, origin string }

// layers returns what was given for each key, the strongest layer's word, and
// every problem met on the way.
func (src Sources) layers() (map[string]setting, []error) {
	fromEnv, file, errs := src.environ()
	fileOrigin := "env " + fileVariable
	if f := src.Flags["config"]; f != "" {
		file, fileOrigin = f, "flag --config"
	}
	given := map[string]setting{}
	if file != "" {
		fromFile, fileErrs := src.file(file, fileOrigin)
		maps.Copy(given, fromFile)
		errs = append(fileErrs, errs...)
	}
	maps.Copy(given, fromEnv)
	for name, text := range src.Flags {
		if name != "config" {
			given[name] = setting{text, "flag --" + name}
		}
	}
	return given, errs
}

// environ reads our variables and refuses those that mean nothing.
func (src Sources) environ() (given map[string]setting, file string, errs []error) {
	given = map[string]setting{}
	byVariable := map[string]string{}
	for i := range keys {
		byVariable[keys[i].Env()] = keys[i].Name
	}
	known := slices.Sorted(maps.Keys(byVariable))
	known = append(known, otherVariables...)
	for _, entry := range src.Environ {
		variable, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(variable, "AKIDB_") || strings.HasPrefix(variable, testPrefix) {
			continue
		}
		name, isKey := byVariable[variable]
		switch {
		case !isKey && !slices.Contains(known, variable):
			errs = append(errs, unknown("environment variable "+variable, nearest.Name(variable, known)))
		case text == "":
		case isKey:
			given[name] = setting{text, "env " + variable}
		case variable == fileVariable:
			file = text
		}
	}
	return given, file, errs
}

// file reads the TOML file.
func (src Sources) file(name, origin string) (map[string]setting, []error) {
	data, err := src.ReadFile(name)
	if err != nil {
		return nil, []error{fmt.Errorf("config file %q (%s): %w", name, origin, err)}
	}
	var table map[string]any
	if err := toml.Unmarshal(data, &table); err != nil {
		if at, ok := errors.AsType[*toml.DecodeError](err); ok {
			row, column := at.Position()
			err = fmt.Errorf("line %d, column %d: %w", row, column, err)
		}
		return nil, []error{fmt.Errorf("config file %q: %w", name, err)}
	}
	known := make([]string, len(keys))
	for i := range keys {
		known[i] = keys[i].Name
	}
	given := map[string]setting{}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(table)) {
		if !slices.Contains(known, key) {
			errs = append(errs, unknown(fmt.Sprintf("config file %q: key %q", name, key), nearest.Name(key, known)))
			continue
		}
		text, err := scalar(table[key])
		if err != nil {
			errs = append(errs, fmt.Errorf("config file %q: key %q: %w", name, key, err))
			continue
		}
		given[key] = setting{text, "file " + name}
	}
	return given, errs
}

// scalar gives a TOML value the text a flag would have.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	}
	return "", fmt.Errorf("is a %T, want a string, an integer or a boolean", v)
}

func unknown(what, near string) error {
	if near == "" {
		return fmt.Errorf("%s is not known", what)
	}
	return fmt.Errorf("%s is not known; did you mean %s?", what, near)
}
