package configuration

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v4"
)

const base = "docker-compose.yml"

// excused names, for each rule, the services it does not hold for, and why. An entry that excuses nothing any more fails the test.
var excused = map[string]map[string]string{
	"is asked whether it is healthy": {
		"beyla": "it listens on no port, and its image holds nothing but the program",
	},
	"has a read-only root":   {"beyla": "it is root of the machine whatever is written here"},
	"drops all capabilities": {"beyla": "probes in the kernel need them"},
	"gains no privileges":    {"beyla": "probes in the kernel need them"},
	"is not privileged":      {"beyla": "probes in the kernel need it"},
	"runs as an unprivileged user": {
		"alloy-containers": "Docker's socket belongs to root",
		"beyla":            "probes in the kernel need root",
		"cortex-tenant":    "the image's own user is 65534",
		"k6":               "the image's own user is 12345",
		"loki":             "the image's own user is 10001",
		"mimir-1":          "its image is made for root and has no directory of another's",
		"mimir-2":          "as mimir-1",
		"mimir-3":          "as mimir-1",
		"minio":            "its image is made for root, and so is its volume",
		"minio-init":       "the same image",
		"pyroscope":        "the image's own user is 10001",
		"tempo":            "the image's own user is 10001",
	},
}

// rules are what we want of every service; each says what is wrong, or nothing.
var rules = map[string]func(*types.Project, types.ServiceConfig) bool{
	"is asked whether it is healthy": func(project *types.Project, service types.ServiceConfig) bool {
		return ends(service) || service.HealthCheck != nil && len(service.HealthCheck.Test) > 1 && !service.HealthCheck.Disable ||
			slices.Contains(askedByProbe(project), service.Name)
	},
	"waits for the health only of what has a check": func(project *types.Project, service types.ServiceConfig) bool {
		for name, dependency := range service.DependsOn {
			if dependency.Condition == types.ServiceConditionHealthy && project.Services[name].HealthCheck == nil {
				return false
			}
		}
		return true
	},
	"comes back after a crash": func(_ *types.Project, service types.ServiceConfig) bool {
		return ends(service) || service.Restart == "unless-stopped"
	},
	"has a memory limit":   func(_ *types.Project, service types.ServiceConfig) bool { return service.MemLimit > 0 },
	"has a read-only root": func(_ *types.Project, service types.ServiceConfig) bool { return service.ReadOnly },
	"drops all capabilities": func(_ *types.Project, service types.ServiceConfig) bool {
		return slices.Equal(service.CapDrop, []string{"ALL"}) && len(service.CapAdd) == 0
	},
	"gains no privileges": func(_ *types.Project, service types.ServiceConfig) bool {
		return slices.Contains(service.SecurityOpt, "no-new-privileges:true")
	},
	"has a limit of processes": func(_ *types.Project, service types.ServiceConfig) bool { return service.PidsLimit > 0 },
	"is not privileged":        func(_ *types.Project, service types.ServiceConfig) bool { return !service.Privileged },
	"runs as an unprivileged user": func(_ *types.Project, service types.ServiceConfig) bool {
		return service.User != "" && !strings.HasPrefix(service.User, "0") && service.User != "root"
	},
	"bounds its log": func(_ *types.Project, service types.ServiceConfig) bool {
		return service.Logging != nil && service.Logging.Options["max-size"] != ""
	},
	"has ports on 127.0.0.1 alone": func(_ *types.Project, service types.ServiceConfig) bool {
		return service.NetworkMode != "host" && !slices.ContainsFunc(service.Ports, func(port types.ServicePortConfig) bool {
			return port.HostIP != "127.0.0.1"
		})
	},
	"has an image of one version": func(_ *types.Project, service types.ServiceConfig) bool {
		return regexp.MustCompile(`:[\w.-]+$`).MatchString(service.Image) && !strings.HasSuffix(service.Image, ":latest")
	},
	"finds what it mounts": func(project *types.Project, service types.ServiceConfig) bool {
		return !slices.ContainsFunc(service.Volumes, func(mount types.ServiceVolumeConfig) bool {
			_, err := os.Stat(mount.Source)
			return ours(project, mount) && err != nil
		})
	},
	// `docker compose up --wait` takes the end of a job that nobody waits for as a failure.
	"is waited for, if it ends": func(project *types.Project, service types.ServiceConfig) bool {
		if service.Restart != "on-failure" {
			return true
		}
		for _, other := range project.Services {
			if other.DependsOn[service.Name].Condition == types.ServiceConditionCompletedSuccessfully {
				return true
			}
		}
		return false
	},
	"asks its neighbours directly, whatever proxy Docker hands to it": func(project *types.Project, service types.ServiceConfig) bool {
		return len(viaProxy(project, service)) == 0
	},
	// SELinux: `z` on what is ours. What belongs to the machine, such as Docker's socket, must not be relabelled.
	"labels our files for SELinux, and no others": func(project *types.Project, service types.ServiceConfig) bool {
		return !slices.ContainsFunc(service.Volumes, func(mount types.ServiceVolumeConfig) bool {
			labelled := mount.Bind != nil && mount.Bind.SELinux != ""
			return labelled != ours(project, mount)
		})
	},
	"is given every variable that its configuration names": func(project *types.Project, service types.ServiceConfig) bool {
		return len(missing(project, service)) == 0
	},
}

// The base alone, with each system and with all of them, in both shapes and with all profiles: it loads without an error or a warning, and
// every service keeps the rules.
func TestCompose(t *testing.T) {
	systems := find(t, "systems/*/compose.yml")
	stacks := map[string][]string{"alone": nil, "all": systems}
	for _, system := range systems {
		stacks[filepath.Base(filepath.Dir(system))] = []string{system}
	}
	for _, overlay := range find(t, "drills/stack/*.yml") {
		stacks[filepath.Base(overlay)] = []string{overlay}
	}
	needed := map[string]bool{}
	for _, shape := range [][]string{{".env"}, {".env", ".env.light"}} {
		for with, overlays := range stacks {
			t.Run(shape[len(shape)-1]+"/"+with, func(t *testing.T) {
				project := load(t, append([]string{base}, overlays...), shape)
				for _, service := range project.Services {
					for rule, holds := range rules {
						_, isExcused := excused[rule][service.Name]
						if isExcused {
							needed[rule+service.Name] = needed[rule+service.Name] || !holds(project, service)
						} else if !holds(project, service) {
							t.Errorf("not so: %s %s %v %v", service.Name, rule, missing(project, service), viaProxy(project, service))
						}
					}
				}
			})
		}
	}
	for rule, services := range excused {
		for service := range services {
			if !needed[rule+service] {
				t.Errorf("%s needs no excuse: it %s", service, rule)
			}
		}
	}
}

// The light shape leaves out what the profile `full` adds, and the rest is the same.
func TestLightShape(t *testing.T) {
	all := load(t, []string{base}, []string{".env"}).ServiceNames()
	full := load(t, []string{base}, []string{".env"}, "full").ServiceNames()
	light := load(t, []string{base}, []string{".env", ".env.light"}, "").ServiceNames()
	without := func(names []string, left ...string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(left, name) })
	}
	if !slices.Equal(without(all, "ctl", "drill"), full) {
		t.Errorf("full: %v of %v", full, all)
	}
	if !slices.Equal(without(full, "mimir-2", "mimir-3", "minio", "minio-init"), light) {
		t.Errorf("light: %v of %v", light, full)
	}
}

// Versions, ports and logins stand in .env and nowhere else, those of the systems too: a default beside it would be a second place.
func TestVersionsAndPortsAreSettings(t *testing.T) {
	image := regexp.MustCompile(`^(\$\{[A-Z0-9_]+_IMAGE\})?$`)
	port := regexp.MustCompile(`^\$\{BIND\}:\$\{[A-Z0-9_]+_PORT\}:\d+$`)
	byDefault := regexp.MustCompile(`\$\{\w+:?[-=?+][^}]*\}`)
	for _, name := range append([]string{base}, find(t, "systems/*.yml", "systems/*/compose.yml")...) {
		if found := byDefault.FindString(read(t, name)); found != "" {
			t.Errorf("%s: %s", name, found)
		}
		var written struct {
			Services map[string]struct {
				Image string
				Ports []string
			}
		}
		must(t, yaml.Unmarshal([]byte(read(t, name)), &written))
		if len(written.Services) == 0 {
			t.Errorf("%s: no service", name)
		}
		for service, says := range written.Services {
			if !image.MatchString(says.Image) {
				t.Errorf("%s: %s has the image %s", name, service, says.Image)
			}
			for _, published := range says.Ports {
				if !port.MatchString(published) {
					t.Errorf("%s: %s publishes %s", name, service, published)
				}
			}
		}
	}
}

// load reads files as Compose does, and fails for whatever Compose would only warn of, such as a variable that nobody sets. The machine's own
// environment plays no part.
func load(t *testing.T, files, environments []string, profiles ...string) *types.Project {
	t.Helper()
	if len(profiles) == 0 {
		profiles = []string{"*"}
	}
	var said bytes.Buffer
	logrus.SetOutput(&said)
	defer logrus.SetOutput(os.Stderr)
	options, err := cli.NewProjectOptions(in(files), cli.WithWorkingDirectory(repository), cli.WithEnvFiles(in(environments)...),
		cli.WithDotEnv, cli.WithProfiles(profiles), cli.WithoutEnvironmentResolution)
	must(t, err)
	project, err := options.LoadProject(context.Background())
	must(t, err)
	if said.Len() > 0 {
		t.Error(said.String())
	}
	return project
}

func in(files []string) []string {
	var paths []string
	for _, file := range files {
		paths = append(paths, filepath.Join(repository, file))
	}
	return paths
}

// ends tells a job, which runs once, from a service.
func ends(service types.ServiceConfig) bool {
	return service.Restart == "no" || service.Restart == "on-failure"
}

// askedByProbe lists what the service `probe` asks all the time: the first word of each line of its SIGNALBOX_STACK*.
func askedByProbe(project *types.Project) []string {
	var asked []string
	for name, value := range project.Services["probe"].Environment {
		if strings.HasPrefix(name, "SIGNALBOX_STACK") && value != nil {
			for line := range strings.Lines(*value) {
				name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
				asked = append(asked, name)
			}
		}
	}
	return asked
}

// viaProxy lists the hosts that the service would ask through a proxy: those that NO_PROXY or no_proxy does not name. The Docker client puts its own
// proxy variables below a service's environment, so that what is written here wins.
func viaProxy(project *types.Project, service types.ServiceConfig) []string {
	resolved, err := project.WithServicesEnvironmentResolved(false)
	if err != nil {
		return []string{err.Error()}
	}
	environment := resolved.Services[service.Name].Environment
	hosts := append(project.ServiceNames(), "localhost", "127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
	for _, neighbour := range project.Services {
		for _, network := range neighbour.Networks {
			if network != nil {
				hosts = append(hosts, network.Aliases...)
			}
		}
	}
	var proxied []string
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		var direct []string
		if value := environment[name]; value != nil {
			direct = strings.Split(*value, ",")
		}
		for _, host := range hosts {
			if !slices.Contains(direct, host) {
				proxied = append(proxied, name+" "+host)
			}
		}
	}
	return proxied
}

func ours(project *types.Project, mount types.ServiceVolumeConfig) bool {
	return mount.Type == types.VolumeTypeBind && strings.HasPrefix(mount.Source, project.WorkingDir)
}

// named are the variables without a default that a configuration asks for: ${NAME}, ${env:NAME} and Alloy's sys.env("NAME").
var named = regexp.MustCompile(`(?:^|[^$])\$\{(?:env:)?([A-Z0-9_]+)\}|sys\.env\("([A-Z0-9_]+)"\)`)

// missing lists the variables that the service's mounted configurations name and nobody gives it.
func missing(project *types.Project, service types.ServiceConfig) []string {
	var absent []string
	given := func(name string) bool {
		value, passed := service.Environment[name]
		_, set := project.Environment[name]
		return passed && (value != nil || set)
	}
	for name := range service.Environment {
		if !given(name) {
			absent = append(absent, name)
		}
	}
	for _, mount := range service.Volumes {
		if !ours(project, mount) {
			continue
		}
		_ = filepath.WalkDir(mount.Source, func(path string, _ os.DirEntry, _ error) error {
			if !slices.Contains([]string{".alloy", ".yaml", ".yml"}, filepath.Ext(path)) {
				return nil
			}
			content, _ := os.ReadFile(path)
			for _, match := range named.FindAllStringSubmatch(string(content), -1) {
				if name := match[1] + match[2]; !given(name) {
					absent = append(absent, name)
				}
			}
			return nil
		})
	}
	slices.Sort(absent)
	return slices.Compact(absent)
}
