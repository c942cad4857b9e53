package configuration

import (
	"encoding/json"
	"net"
	"os"
	"path"
	"testing"
)

// The first Alloy watches whatever stands beside it: each file that a system mounts for it names services of that system, and every other
// Alloy is in one of them.
func TestSystemsAreWatched(t *testing.T) {
	watched := map[string]string{}
	for _, system := range find(t, "systems/*/compose.yml") {
		project := load(t, []string{base, system}, []string{".env"})
		for _, mount := range project.Services["alloy"].Volumes {
			if matched, err := path.Match("/etc/watched-*.json", mount.Target); err != nil || !matched {
				continue
			}
			var groups []struct {
				Targets []string
				Labels  map[string]string
			}
			content, err := os.ReadFile(mount.Source)
			must(t, err)
			must(t, json.Unmarshal(content, &groups))
			for _, group := range groups {
				for _, target := range group.Targets {
					host, _, err := net.SplitHostPort(target)
					must(t, err)
					if _, exists := project.Services[host]; !exists {
						t.Errorf("%s: no service answers at %s", system, target)
					}
					watched[host] = group.Labels["job"]
				}
			}
		}
		for _, service := range project.Services {
			second := service.Image == project.Services["alloy"].Image && service.Name != "alloy"
			if second && watched[service.Name] != "alloy" {
				t.Errorf("%s: nobody watches %s as an Alloy", system, service.Name)
			}
		}
	}
	if watched["cortex-tenant"] != "cortex-tenant" || len(watched) != 5 {
		t.Errorf("watched are %v", watched)
	}
}
