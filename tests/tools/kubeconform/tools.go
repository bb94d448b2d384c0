//go:build tools

// Package tools names the commands that are built.
package tools

import _ "github.com/yannh/kubeconform/cmd/kubeconform"
