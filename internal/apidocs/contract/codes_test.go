package contract

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../../.." // of the repository

// makers are the functions that make an error, by where its code stands.
var makers = map[string]int{
	"BadRequest": 0, "Unprocessable": 0, "NotFound": 0, "Conflict": 0, "Gone": 0, "TooLarge": 0,
	"UnsupportedMediaType": 0, "TooManyRequests": 0, "Unavailable": 0, "StorageFull": 0, "unavailable": 0,
}

// codesIn lists the error codes in the sources of the servers: what is written
// out where an error is made.
func codesIn(t *testing.T, tree fs.FS, folders ...string) []string {
	t.Helper()
	var out []string
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil && !strings.ContainsAny(s, " %") {
				out = append(out, s)
			}
		}
	}
	files := 0
	for _, folder := range folders {
		all, err := fs.Glob(tree, folder+"/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := fs.ReadFile(tree, name)
			if err != nil {
				t.Fatal(err)
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files++
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					name := ""
					switch f := n.Fun.(type) {
					case *ast.Ident:
						name = f.Name
					case *ast.SelectorExpr:
						name = f.Sel.Name
					}
					if at, ok := makers[name]; ok && at < len(n.Args) {
						add(n.Args[at])
					}
				case *ast.KeyValueExpr:
					if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
						add(n.Value)
					}
				}
				return true
			})
		}
	}
	if files == 0 {
		t.Fatal("no source found")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestErrorCodes(t *testing.T) {
	inSource := codesIn(t, os.DirFS(root), "writer", "query", "internal/httpapi", "internal/apidocs")
	inSource = slices.DeleteFunc(inSource, func(c string) bool {
		return c == "malformed_" || // put together, see below
			c == "malformed_query" || // of an internal route
			strings.HasPrefix(c, "the ") // query's unavailable takes a message
	})
	inSource = append(inSource, "malformed_gzip", "malformed_zstd")
	missing, extra := differences(inSource, loadDocument(t).allCodes())
	if len(missing)+len(extra) > 0 {
		t.Errorf("in the source and not in the document: %q; in the document and not in the source: %q", missing, extra)
	}
}

func TestPlanted_ErrorCodes(t *testing.T) {
	dir := t.TempDir()
	source := `package p
func f() error { return httpapi.Conflict("planted", "x") }
var e = &Error{Code: "planted_too"}
`
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := codesIn(t, os.DirFS(dir), "."); !slices.Equal(got, []string{"planted", "planted_too"}) {
		t.Errorf("got %q", got)
	}
}
