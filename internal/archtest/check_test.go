package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// maxLines is the length of a file from which on it holds more than one thing.
const maxLines = 700

// check reads all Go files of the module whose root is fsys and says where
// they depart from table, one line each, in the order of the paths.
func check(fsys fs.FS, table []row) ([]string, error) {
	c := &checker{fsys: fsys, rows: map[string]row{}}
	for _, r := range table {
		c.rows[r.name] = r
	}
	gomod, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(gomod)) {
		if name, ok := strings.CutPrefix(line, "module "); ok {
			c.module = strings.TrimSpace(name)
		}
	}
	if c.module == "" {
		return nil, fmt.Errorf("go.mod names no module")
	}
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && c.leftOut(name):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go" || strings.HasPrefix(path.Base(name), "_"):
			return nil
		}
		return c.file(name)
	})
	return c.faults, err
}

type checker struct {
	fsys   fs.FS
	module string
	rows   map[string]row
	faults []string
}

func (c *checker) fault(name, format string, args ...any) {
	c.faults = append(c.faults, name+": "+fmt.Sprintf(format, args...))
}

// leftOut reports whether the folder dir is none of this module's.
func (c *checker) leftOut(dir string) bool {
	base := path.Base(dir)
	if base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return true
	}
	_, err := fs.Stat(c.fsys, path.Join(dir, "go.mod"))
	return err == nil
}

// file checks one Go file. Only a file that cannot be read or parsed is an
// error.
func (c *checker) file(name string) error {
	src, err := fs.ReadFile(c.fsys, name)
	if err != nil {
		return err
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if ignored(f) {
		return nil
	}
	pkg := path.Dir(name)
	test := strings.HasSuffix(name, "_test.go")

	for _, word := range append(strings.Split(pkg, "/"), strings.TrimSuffix(f.Name.Name, "_test")) {
		switch word {
		case "util", "utils", "common", "helper", "helpers", "misc":
			c.fault(name, "a package called %s says nothing about what is in it", word)
		}
	}
	if n := bytes.Count(src, []byte("\n")); n > maxLines && !ast.IsGenerated(f) {
		c.fault(name, "has %d lines, want at most %d", n, maxLines)
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			c.fault(name, "line %d: has a func init", fset.Position(fn.Pos()).Line)
		}
	}
	row, ok := c.rows[pkg]
	if !ok {
		c.fault(name, "package %s is not in the table", pkg)
		return nil
	}
	for _, imp := range f.Imports {
		target, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			return err
		}
		c.imports(name, row, target, test)
	}
	if !test && !slices.Contains(commandLine, pkg) {
		c.process(name, fset, f)
	}
	return nil
}

// ignored reports whether f belongs to no package: a program that is run by
// hand, with the build constraint ignore.
func ignored(f *ast.File) bool {
	for _, group := range f.Comments {
		if group.Pos() > f.Package {
			break
		}
		for _, line := range group.List {
			if strings.TrimSpace(line.Text) == "//go:build ignore" {
				return true
			}
		}
	}
	return false
}

// imports checks that a file of the package of r may import target.
func (c *checker) imports(name string, r row, target string, test bool) {
	switch target {
	case "unsafe":
		if !slices.Contains(mayUnsafe, r.name) {
			c.fault(name, "imports unsafe")
		}
		return
	case "flag", "github.com/spf13/pflag", "github.com/spf13/cobra":
		if !test && !slices.Contains(commandLine, r.name) {
			c.fault(name, "imports %s, which is for the command line", target)
		}
		return
	case "net/http":
		if !test && slices.Contains(offline, r.name) {
			c.fault(name, "imports net/http")
		}
		return
	}
	ours := "."
	if target != c.module {
		var ok bool
		if ours, ok = strings.CutPrefix(target, c.module+"/"); !ok {
			return
		}
	}
	switch {
	case test && (ours == r.name || allowed(inTests, ours)):
	case !test && slices.Contains(forTests, ours):
		c.fault(name, "imports %s, which is for tests", ours)
	case !allowed(r.may, ours):
		c.fault(name, "imports %s, which the table does not allow %s", ours, r.name)
	}
}

// allowed reports whether one of the patterns stands for the package name.
func allowed(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return p == everything || err == nil && ok
	})
}

// ofProcess are the names of the standard library by which a package gets at
// the process it runs in.
var ofProcess = map[string][]string{
	"os":  {"Args", "Environ", "Exit", "ExpandEnv", "Getenv", "LookupEnv", "Setenv", "Stderr", "Stdin", "Stdout", "Unsetenv"},
	"fmt": {"Print", "Printf", "Println"},
	"log": {"Fatal", "Fatalf", "Fatalln"},
}

// process finds what a package outside the command line must not use. It goes
// by names: a variable called os would deceive it.
func (c *checker) process(name string, fset *token.FileSet, f *ast.File) {
	local := map[string]string{} // the name in this file to the import
	for _, imp := range f.Imports {
		target, _ := strconv.Unquote(imp.Path.Value)
		if _, ok := ofProcess[target]; !ok {
			continue
		}
		if imp.Name == nil {
			local[target] = target
			continue
		}
		local[imp.Name.Name] = target
		if imp.Name.Name == "." {
			c.fault(name, "imports the names of %s into its own", target)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if ok && slices.Contains(ofProcess[local[x.Name]], sel.Sel.Name) {
			c.fault(name, "line %d: uses %s.%s, which is for the command line",
				fset.Position(sel.Pos()).Line, local[x.Name], sel.Sel.Name)
		}
		return true
	})
}
