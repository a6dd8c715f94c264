package holdfast_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "github.com/holdfast-storage/holdfast"

// pkg is what `go list` says of one package.
type pkg struct {
	ImportPath, Dir                    string
	DepOnly                            bool
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

// rel is the package's path below the module: "" for the root.
func (p pkg) rel() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

// in tells whether the package is folder or stands below it.
func (p pkg) in(folder string) bool { return below(p.rel(), folder) }

func below(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// ours lists the module's packages, without their dependencies.
var ours = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-deps",
		"-json=ImportPath,Dir,DepOnly,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if !p.DepOnly {
			all = append(all, p)
		}
	}
})

func packages(t *testing.T) []pkg {
	t.Helper()
	all, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 {
		t.Fatalf("go list found %d packages; expected the whole module", len(all))
	}
	return all
}

// layers is the import order: a package may import its own layer and those
// before it. A new top-level folder needs its place here.
var layers = []string{"failpoint", "state", "watch", "events", "adopt", "reconcile", "bench", "cmd"}

func layer(rel string) int {
	return slices.IndexFunc(layers, func(l string) bool { return below(rel, l) })
}

// breaches says what of a package's imports the house does not allow.
func breaches(p pkg) []string {
	var found []string
	complain := func(format string, args ...any) {
		found = append(found, p.ImportPath+": "+fmt.Sprintf(format, args...))
	}
	own := layer(p.rel())
	if own < 0 && p.rel() != "" {
		complain("stands in no layer; give its folder a place in the import order %v", layers)
	}
	for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
		if rel, ok := strings.CutPrefix(imp, module+"/"); ok {
			switch l := layer(rel); {
			case l > own:
				complain("imports %s: imports run %s", rel, strings.Join(layers, " <- "))
			case below(rel, "cmd") && !below(rel, "cmd/internal"): // which only cmd can import
				complain("imports %s: nothing imports cmd", rel)
			}
		}
		if strings.HasPrefix(imp, "go.etcd.io/") && !p.in("state") && !p.in("bench") { // whose peers are plain clients
			complain("imports %s: only state, the packages below it and bench's peers import etcd", imp)
		}
		if (below(imp, "k8s.io/client-go/informers") || below(imp, "k8s.io/client-go/tools/cache")) && !p.in("watch") {
			complain("imports %s: only watch runs informers", imp)
		}
	}
	if slices.Contains(p.Imports, module+"/state/statetest") {
		complain("imports state/statetest outside a test")
	}
	carries := func(root string) bool {
		return slices.ContainsFunc(p.Deps, func(dep string) bool { return below(dep, root) })
	}
	if p.rel() == "state" && carries("k8s.io") {
		complain("depends on k8s.io: state knows etcd, not Kubernetes")
	}
	server := slices.ContainsFunc([]string{"state/embedded", "state/statetest", "bench", "cmd"}, p.in)
	if !server && carries("go.etcd.io/etcd/server/v3") {
		complain("depends on etcd's server: a library's user should not carry one")
	}
	return found
}

func TestImportDirection(t *testing.T) {
	for _, p := range packages(t) {
		for _, b := range breaches(p) {
			t.Error(b)
		}
	}
}

// The rules above would be worth nothing if they could not fail.
func TestImportDirectionBites(t *testing.T) {
	at := func(rel string) string { return module + "/" + rel }
	for name, p := range map[string]pkg{
		"upwards":                 {ImportPath: at("state"), Imports: []string{at("watch")}},
		"upwards in a test":       {ImportPath: at("watch"), XTestImports: []string{at("reconcile")}},
		"bench from reconcile":    {ImportPath: at("reconcile"), Imports: []string{at("bench")}},
		"cmd":                     {ImportPath: at("cmd/holdfast-bench"), Imports: []string{at("cmd/holdfast")}},
		"etcd outside state":      {ImportPath: at("reconcile"), TestImports: []string{"go.etcd.io/etcd/client/v3"}},
		"informers outside watch": {ImportPath: at("cmd/holdfast"), Imports: []string{"k8s.io/client-go/informers/core/v1"}},
		"statetest in what ships": {ImportPath: at("cmd/holdfast"), Imports: []string{at("state/statetest")}},
		"kubernetes below state":  {ImportPath: at("state"), Deps: []string{"k8s.io/api/core/v1"}},
		"server below watch":      {ImportPath: at("watch"), Deps: []string{"go.etcd.io/etcd/server/v3/embed"}},
		"no layer":                {ImportPath: at("helpers")},
	} {
		if got := breaches(p); len(got) != 1 {
			t.Errorf("%s: breaches = %q, want one", name, got)
		}
	}
	for _, fine := range []pkg{
		{ImportPath: at("reconcile"), Imports: []string{at("state"), at("watch"), "k8s.io/client-go/util/workqueue"}},
		{ImportPath: at("cmd/holdfast-bench"), Imports: []string{at("bench"), at("cmd/internal/cli")}},
	} {
		if got := breaches(fine); len(got) != 0 {
			t.Errorf("%s keeps the rules: breaches = %q", fine.ImportPath, got)
		}
	}
	if below("statement", "state") {
		t.Error("statement counts as below state, because its name begins so")
	}
}

// Every package with tests looks for goroutines that outlive them, in its
// TestMain: with goleak, or with statetest.Main, which does so too.
func TestEveryTestLooksForLeaks(t *testing.T) {
	looks := regexp.MustCompile(`\bgoleak\.|\bMain\(`)
	for _, p := range packages(t) {
		tests, err := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		if len(tests) > 0 && !slices.ContainsFunc(tests, func(path string) bool { return looks.MatchString(testMain(t, path)) }) {
			t.Errorf("%s has tests, and no TestMain that looks for leaked goroutines", p.ImportPath)
		}
	}
}

// testMain is the body of a file's TestMain, or nothing.
func testMain(t *testing.T, path string) string {
	t.Helper()
	set, text := token.NewFileSet(), read(t, path)
	file, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "TestMain" && f.Recv == nil && f.Body != nil {
			return text[set.Position(f.Body.Pos()).Offset:set.Position(f.Body.End()).Offset]
		}
	}
	return ""
}

// files walks the repository's own files, sorted, as slash paths.
func files(t *testing.T, match func(path string) bool) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", ".cache", "bin", "node_modules"}, d.Name()):
			return filepath.SkipDir
		case !d.IsDir() && match(filepath.ToSlash(path)):
			found = append(found, filepath.ToSlash(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func isGo(path string) bool { return strings.HasSuffix(path, ".go") }

// maxLines is the budget of a file that is not a test. About 300 is the aim;
// past 400 a file has two jobs.
const maxLines = 400

func TestFileLength(t *testing.T) {
	for _, path := range files(t, isGo) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		if n := strings.Count(read(t, path), "\n"); n > maxLines {
			t.Errorf("%s has %d lines, more than %d: split it by what it does", path, n, maxLines)
		}
	}
}

func TestFolderNames(t *testing.T) {
	seen := map[string]bool{}
	for _, path := range files(t, isGo) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if seen[dir] {
			continue
		}
		seen[dir] = true
		for _, part := range strings.Split(dir, "/") {
			if slices.Contains([]string{"util", "utils", "common", "types", "pkg", "helpers", "misc"}, part) {
				t.Errorf("%s: %q says nothing of what is in it; name the folder after its job", dir, part)
			}
		}
	}
}

// sleepers may call time.Sleep, each with its reason. A wait names the condition
// that it waits for; a sleep neither ends when that is met nor says what failed.
var sleepers = map[string]string{
	"state/statetest/process_other.go": "there is no portable way to see that a process has stopped",
}

func TestNoSleeping(t *testing.T) {
	used := map[string]bool{}
	for _, path := range files(t, isGo) {
		for _, pos := range sleeps(t, path) {
			if sleepers[path] == "" {
				t.Errorf("%s: time.Sleep; wait for the condition instead", pos)
			}
			used[path] = true
		}
	}
	for path := range sleepers {
		if !used[path] {
			t.Errorf("%s stands on the list of sleepers and does not sleep", path)
		}
	}
	script := func(p string) bool { return strings.Contains(p, "testdata/") }
	for _, path := range files(t, script) {
		for i, line := range strings.Split(read(t, path), "\n") {
			if f := strings.Fields(strings.TrimLeft(line, "! ?")); len(f) > 1 && f[0] == "exec" && f[1] == "sleep" {
				t.Errorf("%s:%d: exec sleep; wait for the condition instead", path, i+1)
			}
		}
	}
}

// sleeps finds the calls of time.Sleep in a file, but for two kinds: the
// interval at which a loop looks for its condition again; and, in a synctest
// bubble, what only moves the fake clock.
func sleeps(t *testing.T, path string) []token.Position {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	clock := ""
	for _, imp := range file.Imports {
		if p, _ := strconv.Unquote(imp.Path.Value); p == "time" {
			clock = "time"
			if imp.Name != nil {
				clock = imp.Name.Name
			}
		}
	}
	var found []token.Position
	ast.PreorderStack(file, nil, func(n ast.Node, above []ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if calls(call, "synctest", "Test") {
			return false
		}
		if calls(call, clock, "Sleep") && !polls(above) {
			found = append(found, set.Position(call.Pos()))
		}
		return true
	})
	return found
}

// calls tells whether the call is one of pkg.name.
func calls(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// polls tells whether the innermost loop around a node looks for something: it
// neither counts nor walks a list.
func polls(above []ast.Node) bool {
	for _, n := range slices.Backward(above) {
		switch n := n.(type) {
		case *ast.ForStmt:
			_, counts := n.Post.(*ast.IncDecStmt)
			return !counts
		case *ast.RangeStmt, *ast.FuncLit, *ast.FuncDecl:
			return false
		}
	}
	return false
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
