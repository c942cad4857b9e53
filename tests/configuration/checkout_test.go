package configuration

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

// checkout clones what is committed as somebody does whose Git writes CRLF and whose umask hides files from everybody else.
func checkout(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(repository)
	must(t, err)
	clone := filepath.Join(t.TempDir(), "clone")
	run(t, root, `umask 077 && git clone --quiet --depth 1 --config core.autocrlf=true "file://$PWD" "$0"`, clone)
	return clone
}

func run(t *testing.T, directory, script string, arguments ...string) {
	t.Helper()
	command := exec.Command("sh", append([]string{"-euc", script}, arguments...)...)
	command.Dir = directory
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, said)
	}
}

// A checkout made with core.autocrlf=true has line feeds alone: a shell script with a carriage return ends with 127, and the stores that wait for its
// buckets wait for ever.
func TestCheckoutHasNoCarriageReturns(t *testing.T) {
	clone := checkout(t)
	files := 0
	must(t, filepath.WalkDir(clone, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == ".git" {
			return filepath.SkipDir
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(content, []byte("\r\n")) && !bytes.Contains(content, []byte{0}) {
			t.Errorf("%s has a carriage return", strings.TrimPrefix(path, clone))
		}
		files++
		return nil
	}))
	if files < 100 {
		t.Errorf("only %d files were looked at", files)
	}
}

// A container runs as another user than the one who cloned. After `make readable`, which `make up` runs first, every file that Compose mounts can be
// read by anybody, although the clone was made under umask 077; what is not mounted stays as it was.
func TestMountedFilesAreReadableAfterCloneUnderUmask077(t *testing.T) {
	clone := checkout(t)
	project := load(t, append([]string{base}, find(t, "systems/*/compose.yml")...), []string{".env"})
	hidden := unreadable(t, project, clone)
	if len(hidden) < 20 {
		t.Fatalf("umask 077 hides only %v: this test would prove nothing", hidden)
	}
	run(t, clone, "make readable")
	if hidden := unreadable(t, project, clone); len(hidden) > 0 {
		t.Errorf("containers cannot read %v", hidden)
	}
	if mode := permissions(t, filepath.Join(clone, ".env")); mode&0o077 != 0 {
		t.Errorf(".env has mode %o", mode)
	}
}

// unreadable lists the files and folders below the project's mounts that other users may not read or enter, in another checkout of it.
func unreadable(t *testing.T, project *types.Project, clone string) []string {
	t.Helper()
	var hidden []string
	for _, service := range project.Services {
		for _, mount := range service.Volumes {
			if !ours(project, mount) {
				continue
			}
			source, err := filepath.Rel(project.WorkingDir, mount.Source)
			must(t, err)
			must(t, filepath.WalkDir(filepath.Join(clone, source), func(path string, entry fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				needed := os.FileMode(0o004)
				if entry.IsDir() {
					needed = 0o005
				}
				if permissions(t, path)&needed != needed {
					hidden = append(hidden, strings.TrimPrefix(path, clone))
				}
				return nil
			}))
		}
	}
	return hidden
}

func permissions(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Mode().Perm()
}

// The course keeps what was done, in a file of its own, and lists every step of its page.
func TestCourseKeepsWhatWasDone(t *testing.T) {
	clone := checkout(t)
	course := func(done string) []string {
		command := exec.Command("make", "--no-print-directory", "course", "DONE="+done)
		command.Dir = clone
		said, err := command.Output()
		must(t, err)
		return strings.Split(strings.TrimRight(string(said), "\n"), "\n")
	}
	if steps := course(""); len(steps) != 12 || steps[0] != "  [ ] 1 ◆ Start, and look around" {
		t.Errorf("the steps are %q", steps)
	}
	course("1")
	for number, step := range course("12") {
		if ticked := strings.HasPrefix(step, "  [x] "); ticked != (number == 0 || number == 11) {
			t.Errorf("after 1 and 12: %s", step)
		}
	}
	if steps := course("none"); strings.Contains(strings.Join(steps, ""), "[x]") {
		t.Errorf("begun anew: %q", steps)
	}
}
