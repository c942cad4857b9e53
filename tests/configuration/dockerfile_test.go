package configuration

import (
	"strings"
	"testing"
)

// Debian's slim image has no certificates of authorities, and our clients' library makes no client without any.
func TestImageHasCertificates(t *testing.T) {
	stages := strings.Split(read(t, "Dockerfile"), "\nFROM ")
	last := stages[len(stages)-1]
	if len(stages) < 2 || !strings.Contains(last, "COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/") {
		t.Error("the last stage copies no certificates")
	}
}
