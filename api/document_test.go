package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
)

func loadDocument(t *testing.T) *openapi3.T {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return document
}

func TestTheDocumentAndTheRoutesAgree(t *testing.T) {
	var described []string
	for path, item := range loadDocument(t).Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	slices.Sort(described)
	served := slices.Sorted(maps.Keys((&api{}).operations()))
	if diff := cmp.Diff(described, served); diff != "" {
		t.Errorf("described and served differ (-described +served):\n%s", diff)
	}
}

// TestTheGeneratedTypesAreNotStale compares fields and whether they can be left
// out, which needs no generator: tests may run as root, where there is no Go.
func TestTheGeneratedTypesAreNotStale(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "gen/types.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	generated := map[string]map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if fields, ok := spec.Type.(*ast.StructType); ok {
				generated[spec.Name.Name] = jsonFields(t, fields)
			}
		}
		return true
	})
	for name, schema := range loadDocument(t).Components.Schemas {
		described := map[string]bool{}
		for _, part := range append(slices.Clone(schema.Value.AllOf), schema) {
			for field := range part.Value.Properties {
				described[field] = slices.Contains(part.Value.Required, field)
			}
		}
		if len(described) == 0 {
			continue // no struct
		}
		if diff := cmp.Diff(described, generated[name]); diff != "" {
			t.Errorf("%s is stale: run 'make generate' (required fields, -described +generated):\n%s", name, diff)
		}
	}
}

// jsonFields returns the names that a struct has in JSON, and whether they are
// always there.
func jsonFields(t *testing.T, fields *ast.StructType) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, field := range fields.Fields.List {
		tag, err := strconv.Unquote(field.Tag.Value)
		if err != nil {
			t.Fatal(err)
		}
		name := reflect.StructTag(tag).Get("json")
		short, optional := strings.CutSuffix(name, ",omitempty")
		names[short] = !optional
	}
	return names
}
