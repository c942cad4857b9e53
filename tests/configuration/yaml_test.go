package configuration

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"go.yaml.in/yaml/v4"
)

// Every configuration in YAML is one document that holds something, with no key twice, in either shape of the stack.
func TestYAMLParses(t *testing.T) {
	names := find(t, "loki/*.yaml", "loki/rules/*/*.yaml", "mimir/*.yaml", "mimir/rules/*/*.yaml", "tempo/*.yaml", "pyroscope/*.yaml",
		"grafana/provisioning/*/*.yaml", "systems/*.yml", "systems/*/*.yaml", "systems/*/*.yml")
	for shape, values := range shapes(t) {
		for _, name := range names {
			t.Run(shape+"/"+name, func(t *testing.T) {
				var content map[string]any
				must(t, yaml.Unmarshal([]byte(expand(read(t, name), values)), &content))
				if len(content) == 0 {
					t.Error("is empty")
				}
			})
		}
	}
}

// Loki 3.7 makes its parts in a random order, and panics at its first record when the tenants' settings come late (loki/loki.yaml, the traps).
func TestLokiMakesTheTenantsSettingsFirst(t *testing.T) {
	var content struct{ Target string }
	must(t, yaml.Unmarshal([]byte(read(t, "loki/loki.yaml")), &content))
	if content.Target != "tenant-configs,all" {
		t.Errorf("target is %q", content.Target)
	}
}

// .env.light turns what .env says, and adds nothing: what it alone named would be unset in the full shape.
func TestLightShapeOnlyTurnsSettings(t *testing.T) {
	full := settings(t, ".env")
	for name, value := range settings(t, ".env.light") {
		if said, known := full[name]; !known || said == value {
			t.Errorf("%s=%s turns nothing of .env (there: %q)", name, value, said)
		}
	}
}

// shapes holds the settings of `make up` and of `make up-light`.
func shapes(t *testing.T) map[string]map[string]string {
	full := settings(t, ".env")
	light := maps.Clone(full)
	maps.Copy(light, settings(t, ".env.light"))
	return map[string]map[string]string{"full": full, "light": light}
}

func settings(t *testing.T, name string) map[string]string {
	t.Helper()
	values, err := dotenv.UnmarshalWithLookup(read(t, name), nil)
	must(t, err)
	return values
}

// variable is ${NAME} or ${NAME:default}, as Loki, Mimir, Tempo and Pyroscope write it, and ${env:NAME} of the OpenTelemetry Collector.
var variable = regexp.MustCompile(`\$\{(?:env:)?([A-Z0-9_]+)(?::-?([^}]*))?\}`)

func expand(text string, values map[string]string) string {
	return variable.ReplaceAllStringFunc(text, func(found string) string {
		parts := variable.FindStringSubmatch(found)
		if value, set := values[parts[1]]; set {
			return value
		}
		return parts[2]
	})
}

func firstDifference(one, other string) string {
	ours, theirs := strings.Split(one, "\n"), strings.Split(other, "\n")
	for i := range min(len(ours), len(theirs)) {
		if ours[i] != theirs[i] {
			return fmt.Sprintf("Line %d is\n%s\nand should be\n%s", i+1, ours[i], theirs[i])
		}
	}
	return fmt.Sprintf("It has %d lines and should have %d", len(ours), len(theirs))
}
