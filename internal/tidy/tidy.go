// Package tidy enforces the mechanical part of the house style: who may import
// whom, where an external module may appear, and what a file must look like. Its
// test runs over the whole repository; table.go holds the rules as data, so a
// new edge is a visible decision.
//
// Only files of the module at the root are read, never testdata, generated code
// only for its imports, and never a nested module.
package tidy

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Violation is one place where a rule does not hold.
type Violation struct {
	Rule    string // one of the rule names below
	File    string // path from the root, slash-separated; a folder for rules about packages
	Line    int    // 1-based; 0 when the whole file is meant
	Message string
}

func (v Violation) String() string {
	if v.Line == 0 {
		return fmt.Sprintf("%s: %s: %s", v.File, v.Rule, v.Message)
	}
	return fmt.Sprintf("%s:%d: %s: %s", v.File, v.Line, v.Rule, v.Message)
}

// The rules.
const (
	RuleImport   = "import"   // an import edge between packages of ours is not in the table
	RuleExternal = "external" // an external module where the table does not allow it
	RulePackage  = "package"  // a package's name, place or missing comment
	RuleLength   = "length"   // a file past maxLines
	RuleFormat   = "format"   // gofmt would change it
	RuleWord     = "word"     // a word that has no place in comments and documents
	RuleAssembly = "assembly" // a legacy SSE instruction among AVX code
)

// maxLines is where a file wants splitting.
const maxLines = 600

// source is one file as the rules see it.
type source struct {
	path      string // from the root
	text      []byte
	file      *ast.File // nil unless Go
	fset      *token.FileSet
	generated bool
}

func (s *source) dir() string  { return path.Dir(s.path) }
func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }
func (s *source) line(p token.Pos) int {
	return s.fset.Position(p).Line
}

// Check reads the module at the root of tree and returns every violation, sorted
// by file. It fails when there is nothing to check: a scan that matches nothing
// has been pointed at the wrong place.
func Check(tree fs.FS) ([]Violation, error) {
	module, sources, err := load(tree)
	if err != nil {
		return nil, err
	}
	var found []Violation
	add := func(rule, file string, line int, format string, args ...any) {
		found = append(found, Violation{rule, file, line, fmt.Sprintf(format, args...)})
	}
	for _, s := range sources {
		if s.file != nil {
			checkImports(s, module, add)
		}
		if !s.generated {
			checkLength(s, add)
			checkFormat(s, add)
			checkWords(s, add)
			checkAssembly(s, add)
		}
	}
	checkPackages(sources, add)
	slices.SortStableFunc(found, func(a, b Violation) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return found, nil
}

type report func(rule, file string, line int, format string, args ...any)

// load reads go.mod and every file some rule is about.
func load(tree fs.FS) (module string, sources []*source, err error) {
	mod, err := fs.ReadFile(tree, "go.mod")
	if err != nil {
		return "", nil, fmt.Errorf("tidy: not the root of a module: %w", err)
	}
	module = modulePath(mod)
	goFiles := 0
	err = fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skip(tree, p, d.Name())
		}
		if !d.Type().IsRegular() || !readable(p) {
			return nil
		}
		s, err := read(tree, p)
		if err != nil {
			return err
		}
		if s.file != nil {
			goFiles++
		}
		sources = append(sources, s)
		return nil
	})
	if err == nil && (module == "" || goFiles == 0) {
		err = errors.New("no Go file found")
	}
	if err != nil {
		return "", nil, fmt.Errorf("tidy: %w", err)
	}
	return module, sources, nil
}

// skip leaves out what is not ours to judge.
func skip(tree fs.FS, dir, name string) error {
	if dir == "." {
		return nil
	}
	if strings.HasPrefix(name, ".") && name != ".ci" || strings.HasPrefix(name, "_") || name == "testdata" || name == "bin" {
		return fs.SkipDir
	}
	if _, err := fs.Stat(tree, path.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

// readable reports whether some rule is about a file of this name.
func readable(p string) bool {
	switch path.Ext(p) {
	case ".go", ".s", ".h", ".md", ".yaml", ".yml", ".toml", ".sh", ".proto", ".py", ".mk":
		return true
	}
	return path.Base(p) == "Makefile" || path.Base(p) == "Dockerfile" || path.Dir(p) == ".ci"
}

func read(tree fs.FS, p string) (*source, error) {
	text, err := fs.ReadFile(tree, p)
	if err != nil {
		return nil, err
	}
	s := &source{path: p, text: text}
	if path.Ext(p) != ".go" {
		s.generated = bytes.Contains(text, []byte("Code generated ")) && bytes.Contains(text, []byte("DO NOT EDIT."))
		return s, nil
	}
	s.fset = token.NewFileSet()
	if s.file, err = parser.ParseFile(s.fset, p, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		return nil, err
	}
	s.generated = ast.IsGenerated(s.file)
	return s, nil
}

func modulePath(mod []byte) string {
	for line := range strings.Lines(string(mod)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}
