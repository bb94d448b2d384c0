//go:build tools

// Package tools names the commands that are built.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
