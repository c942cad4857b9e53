package configuration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/images.md says of every image of .env where its tag was seen and what processors it is built for, and of no other.
func TestEveryImageHasItsEvidence(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+_IMAGE)` \\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\|$")
	documented := map[string]string{}
	for _, match := range row.FindAllStringSubmatch(read(t, "docs/images.md"), -1) {
		documented[match[1]] = match[2]
		if len(strings.TrimSpace(match[3])) < 10 || strings.TrimSpace(match[4]) == "" {
			t.Errorf("docs/images.md does not say where %s was seen or what it is built for", match[1])
		}
	}
	for name, image := range settings(t, ".env") {
		// What is built here was seen nowhere else.
		if !strings.HasSuffix(name, "_IMAGE") || name == "SIGNALBOX_IMAGE" {
			continue
		}
		if documented[name] != image {
			t.Errorf("%s is %s in .env and %q in docs/images.md", name, image, documented[name])
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("docs/images.md has %s, which .env does not", name)
	}
	if strings.Contains(read(t, ".env"), "@sha256:") {
		t.Error(".env pins a digest; docs/images.md says that none is")
	}
}

// An image without Compose is built from what .env names.
func TestDockerfileDefaultsAreThoseOfEnv(t *testing.T) {
	arguments := regexp.MustCompile(`(?m)^ARG (RUST_IMAGE|BASE_IMAGE)=(.+)$`).FindAllStringSubmatch(read(t, "Dockerfile"), -1)
	if len(arguments) != 2 {
		t.Fatalf("the Dockerfile has %d of the two arguments", len(arguments))
	}
	for _, argument := range arguments {
		if want := settings(t, ".env")[argument[1]]; argument[2] != want {
			t.Errorf("Dockerfile: %s is %s, in .env %s", argument[1], argument[2], want)
		}
	}
}

// The image is built from the whole workspace: no member is kept out of the build's context, and the layer of the dependencies has its manifest.
func TestEveryCrateIsInTheImage(t *testing.T) {
	members := regexp.MustCompile(`(?m)^members = \[(.+)\]$`).FindStringSubmatch(read(t, "Cargo.toml"))
	if members == nil {
		t.Fatal("Cargo.toml names no members")
	}
	admitted, dockerfile := strings.Split(read(t, ".dockerignore"), "\n"), read(t, "Dockerfile")
	requireTargets(t, dockerfile, "")
	for member := range strings.SplitSeq(members[1], ", ") {
		name := strings.Trim(member, `"`)
		if !slices.Contains(admitted, "!"+name) {
			t.Errorf(".dockerignore does not have !%s", name)
		}
		if copied := fmt.Sprintf("\nCOPY %s/Cargo.toml %s/\n", name, name); !strings.Contains(dockerfile, copied) {
			t.Errorf("the Dockerfile does not have %s", strings.TrimSpace(copied))
		}
		requireTargets(t, dockerfile, name+"/")
	}
}

// requireTargets: an example, bench or test that a manifest names without its path is looked for on disk when cargo reads the manifest.
func requireTargets(t *testing.T, dockerfile, crate string) {
	t.Helper()
	for kind, folder := range map[string]string{"example": "examples/", "bench": "benches/", "test": "tests/"} {
		copied := fmt.Sprintf("\nCOPY %s%s %s%s\n", crate, strings.TrimSuffix(folder, "/"), crate, folder)
		for _, section := range strings.Split(read(t, crate+"Cargo.toml"), "[["+kind+"]]")[1:] {
			section, _, _ = strings.Cut(section, "\n[")
			if strings.Contains(section, "\npath = ") || strings.Contains(dockerfile, copied) {
				continue
			}
			t.Errorf("%sCargo.toml has a [[%s]], and the Dockerfile does not have %s", crate, kind, strings.TrimSpace(copied))
		}
	}
}
