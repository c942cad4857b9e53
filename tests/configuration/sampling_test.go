package configuration

import (
	"regexp"
	"testing"
	"time"
)

// Children of a long request arrive before it ends. Decided by then, a slow or failed one is dropped like any other.
func TestNoTraceIsDecidedBeforeTheLongestRequestEnds(t *testing.T) {
	duration := func(file, pattern, unit string) time.Duration {
		matched := regexp.MustCompile(pattern).FindStringSubmatch(read(t, file))
		if matched == nil {
			t.Fatalf("%s: nothing matches %s", file, pattern)
		}
		value, err := time.ParseDuration(matched[1] + unit)
		must(t, err)
		return value
	}
	wait := duration("alloy/modules/traces-sampled.alloy", `decision_wait += "(\w+)"`, "")
	longest := duration("src/settings.rs", "`SIGNALBOX_REQUEST_TIMEOUT_MS`: .* Default ([0-9]+)", "ms")
	// Until a span is in Alloy: the SDK's schedule delay, 5 s where nothing else is set.
	if delay := 5 * time.Second; wait < longest+delay {
		t.Errorf("decided after %v, a request may take %v and its span %v more", wait, longest, delay)
	}
}
