//go:build tools

package main

import _ "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher"
