// Package configuration checks what the stack reads, where no Docker runs: Alloy's files with Alloy's own parser, the Compose files with
// Compose's own loader, and the rest as YAML.
package configuration

import (
	"os"
	"path/filepath"
	"testing"
)

// Tests run in their own folder.
const repository = "../.."

// find lists the files of the repository that match one of the patterns, relative to its root. A pattern without any file is an error of the
// test: a renamed folder must not make it pass.
func find(t *testing.T, patterns ...string) []string {
	t.Helper()
	var found []string
	for _, pattern := range patterns {
		matches, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil || len(matches) == 0 {
			t.Fatalf("no file %s (%v)", pattern, err)
		}
		for _, match := range matches {
			relative, err := filepath.Rel(repository, match)
			must(t, err)
			found = append(found, relative)
		}
	}
	return found
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(repository, name))
	must(t, err)
	return string(content)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
