package tidy

import (
	"bytes"
	"go/format"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// matches reports whether dir is covered by pattern.
func matches(pattern, dir string) bool {
	if pattern == "..." {
		return true
	}
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return dir == below || strings.HasPrefix(dir, below+"/")
	}
	return dir == pattern
}

func matchesAny(patterns []string, dir string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, dir) })
}

// edgeOf returns the most specific entry for a package, which is the longest
// pattern, an exact one before a folder's.
func edgeOf(dir string) (edge, bool) {
	best, found := edge{}, false
	for _, e := range edges {
		if matches(e.pkg, dir) && (!found || len(strings.TrimSuffix(e.pkg, "/...")) > len(strings.TrimSuffix(best.pkg, "/..."))) {
			best, found = e, true
		}
	}
	return best, found
}

// checkImports holds one file's imports against both tables.
func checkImports(s *source, module string, add report) {
	for _, spec := range s.file.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser would have refused it
		}
		line := s.line(spec.Pos())
		first, _, _ := strings.Cut(target, "/")
		switch ours, isOurs := strings.CutPrefix(target, module+"/"); {
		case isOurs:
			checkEdge(s, ours, line, add)
		case target == "C":
			add(RuleExternal, s.path, line, "cgo: the program is one static binary")
		case strings.Contains(first, "."):
			checkFence(s, target, line, add)
		}
	}
}

func checkEdge(s *source, target string, line int, add report) {
	from, known := edgeOf(s.dir())
	if !known || target == s.dir() || matches(from.pkg, target) || matchesAny(from.may, target) {
		return // an unknown package is reported once, by checkPackages
	}
	may := "nothing of ours"
	if len(from.may) > 0 {
		may = strings.Join(from.may, ", ")
	}
	add(RuleImport, s.path, line, "%s may import %s, not %s", s.dir(), may, target)
}

func checkFence(s *source, target string, line int, add report) {
	best, found := fence{}, false
	for _, f := range fences {
		if (target == f.module || strings.HasPrefix(target, f.module+"/")) && len(f.module) > len(best.module) {
			best, found = f, true
		}
	}
	switch {
	case !found:
		add(RuleExternal, s.path, line, "%s is not in the table of external modules", target)
	case matchesAny(best.places, s.dir()), best.testsOnly && s.isTest():
	case best.testsOnly:
		add(RuleExternal, s.path, line, "%s is for tests", target)
	default:
		add(RuleExternal, s.path, line, "%s belongs in %s only", best.module, strings.Join(best.places, ", "))
	}
}

// checkPackages holds every folder with Go files to the rules about packages.
func checkPackages(sources []*source, add report) {
	documented := map[string]bool{}
	var dirs []string
	for _, s := range sources {
		if s.file == nil {
			continue
		}
		if !slices.Contains(dirs, s.dir()) {
			dirs = append(dirs, s.dir())
		}
		if s.generated || !s.isTest() && s.file.Doc != nil {
			documented[s.dir()] = true
		}
		if name := s.file.Name.Name; slices.Contains(forbiddenNames, strings.TrimSuffix(name, "_test")) {
			add(RulePackage, s.path, s.line(s.file.Name.Pos()), "package %s: call it by what it is for", name)
		}
	}
	for _, dir := range dirs {
		if _, known := edgeOf(dir); !known {
			add(RulePackage, dir, 0, "no entry in the import table")
		}
		if !documented[dir] && hasCode(sources, dir) {
			add(RulePackage, dir, 0, "no package comment")
		}
		if slices.Contains(forbiddenNames, path.Base(dir)) {
			add(RulePackage, dir, 0, "a folder called %s: call it by what it is for", path.Base(dir))
		}
	}
}

// hasCode is false for a folder of tests alone, which needs no package comment.
func hasCode(sources []*source, dir string) bool {
	return slices.ContainsFunc(sources, func(s *source) bool { return s.file != nil && s.dir() == dir && !s.isTest() })
}

func checkLength(s *source, add report) {
	if s.file == nil {
		return
	}
	if lines := bytes.Count(s.text, []byte{'\n'}); lines > maxLines {
		add(RuleLength, s.path, 0, "%d lines; past %d a file wants splitting by concept", lines, maxLines)
	}
}

func checkFormat(s *source, add report) {
	if s.file == nil {
		return
	}
	// It parses, so format.Source cannot fail.
	if formatted, err := format.Source(s.text); err != nil || !bytes.Equal(formatted, s.text) {
		add(RuleFormat, s.path, 0, "not formatted; run gofmt -w")
	}
}

var forbidden = regexp.MustCompile("(?i)" + strings.Join(forbiddenWords, "|"))

// checkWords reads the comments of Go files and the whole of everything else.
func checkWords(s *source, add report) {
	if s.file == nil {
		for i, line := range bytes.Split(s.text, []byte{'\n'}) {
			if word := forbidden.Find(line); word != nil {
				add(RuleWord, s.path, i+1, "%q has no place in a document", word)
			}
		}
		return
	}
	for _, group := range s.file.Comments {
		for _, comment := range group.List {
			for i, line := range strings.Split(comment.Text, "\n") {
				if word := forbidden.FindString(line); word != "" {
					add(RuleWord, s.path, s.line(comment.Pos())+i, "%q has no place in a comment", word)
				}
			}
		}
	}
}

var (
	// An instruction of amd64 assembly: an upper-case mnemonic, then operands.
	instruction = regexp.MustCompile(`^\s*([A-Z][A-Z0-9]+)\s+(.*)$`)
	xmmOperand  = regexp.MustCompile(`\bX([0-9]|[12][0-9]|3[01])\b`)
)

// checkAssembly refuses legacy SSE instructions in files that also use AVX:
// mixing them costs a state transition, and VZEROUPPER only guards the return.
// The VEX form of every instruction on X registers begins with V.
func checkAssembly(s *source, add report) {
	if !strings.HasSuffix(s.path, "_amd64.s") && !strings.HasSuffix(s.path, "_amd64.h") {
		return
	}
	for i, line := range strings.Split(string(s.text), "\n") {
		code, _, _ := strings.Cut(line, "//")
		for _, statement := range strings.Split(code, ";") {
			m := instruction.FindStringSubmatch(strings.TrimRight(statement, "\\ \t"))
			if m != nil && m[1] != "TEXT" && !strings.HasPrefix(m[1], "V") && xmmOperand.MatchString(m[2]) {
				add(RuleAssembly, s.path, i+1, "%s on an X register is a legacy SSE instruction; use its VEX form", m[1])
			}
		}
	}
}
