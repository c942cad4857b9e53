package configuration

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A second copy of the stack: PORT_OFFSET moves every port of .env for whatever make starts, also where make calls itself, and copies at multiples of
// 300 share no port.
func TestPortOffsetMovesEveryPort(t *testing.T) {
	ports := map[string]int{}
	for name, value := range settings(t, ".env") {
		if strings.HasSuffix(name, "_PORT") {
			port, err := strconv.Atoi(value)
			must(t, err)
			ports[name] = port
		}
	}
	if len(ports) < 20 {
		t.Fatalf("only %d ports: %v", len(ports), ports)
	}
	if moved := exported(t, "300"); !maps.Equal(moved, shifted(ports, 300)) {
		t.Errorf("exported are %v", moved)
	}
	if moved := exported(t, ""); len(moved) > 0 {
		t.Errorf("without an offset make says %v, where .env should", moved)
	}
	taken := map[int]string{}
	for copies := range 10 {
		for name, port := range shifted(ports, 300*copies) {
			if other, twice := taken[port]; twice {
				t.Errorf("%s of copy %d has port %d, as %s", name, copies, port, other)
			}
			taken[port] = name
		}
	}
}

func shifted(ports map[string]int, by int) map[string]int {
	moved := map[string]int{}
	for name, port := range ports {
		moved[name] = port + by
	}
	return moved
}

// exported are the ports in the environment of a recipe, two makes deep.
func exported(t *testing.T, offset string) map[string]int {
	t.Helper()
	makefile := filepath.Join(t.TempDir(), "show.mk")
	root, err := filepath.Abs(repository)
	must(t, err)
	must(t, os.WriteFile(makefile, []byte("include "+filepath.Join(root, "Makefile")+"\nouter: ; @$(MAKE) --no-print-directory -f "+makefile+
		" inner\ninner: ; @env\n"), 0o600))
	command := exec.Command("make", "--no-print-directory", "-f", makefile, "outer")
	command.Dir = root
	command.Env = []string{"PATH=" + os.Getenv("PATH")}
	if offset != "" {
		command.Env = append(command.Env, "PORT_OFFSET="+offset)
	}
	said, err := command.Output()
	must(t, err)
	ports := map[string]int{}
	for line := range strings.Lines(string(said)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if strings.HasSuffix(name, "_PORT") {
			port, err := strconv.Atoi(value)
			must(t, err)
			ports[name] = port
		}
	}
	return ports
}
