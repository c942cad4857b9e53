"""What of kubernetes/ and docs/ is computed: values that compose's files already say, and the capacity page. `make kubernetes-files`."""
