package configuration

import (
	"bytes"
	"testing"

	"github.com/grafana/alloy/syntax/parser"
	"github.com/grafana/alloy/syntax/printer"
)

// Each file parses, and is as `alloy fmt` would write it.
func TestAlloyParsesAndIsFormatted(t *testing.T) {
	for _, name := range find(t, "alloy/*.alloy", "alloy/modules/*.alloy", "kubernetes/alloy/*.alloy", "systems/*/*.alloy") {
		t.Run(name, func(t *testing.T) {
			written := read(t, name)
			file, err := parser.ParseFile(name, []byte(written))
			must(t, err)
			if len(file.Body) == 0 {
				t.Fatal("holds no block")
			}
			var formatted bytes.Buffer
			must(t, printer.Fprint(&formatted, file))
			formatted.WriteByte('\n')
			if formatted.String() != written {
				t.Error("not formatted; `alloy fmt --write` does it. " + firstDifference(written, formatted.String()))
			}
		})
	}
}
