// Command csi-folder is a CSI driver whose volumes are folders that each node sees. Its detach does nothing, as that of
// many drivers of shared storage: whoever has the volume mounted writes on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer
	name, node, folder, endpoint string
}

func main() {
	var d driver
	flag.StringVar(&d.name, "name", "", "the driver's name")
	flag.StringVar(&d.folder, "folder", "", "where the volumes are, each a folder")
	flag.StringVar(&d.endpoint, "endpoint", "", "the socket of the driver")
	flag.StringVar(&d.node, "node", "", "the node that it mounts volumes on; none: it attaches")
	register := flag.String("register", "", "the socket by which a kubelet learns of it")
	flag.Parse()
	failed := make(chan error)
	go func() {
		failed <- serve(d.endpoint, func(server *grpc.Server) {
			csi.RegisterIdentityServer(server, &d)
			csi.RegisterControllerServer(server, &d)
			csi.RegisterNodeServer(server, &d)
		})
	}()
	if *register != "" {
		go func() {
			failed <- serve(*register, func(server *grpc.Server) { registration.RegisterRegistrationServer(server, &d) })
		}()
	}
	fmt.Fprintln(os.Stderr, <-failed)
	os.Exit(1)
}

// A socket of a driver that was killed is still there.
func serve(socket string, register func(*grpc.Server)) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	register(server)
	return server.Serve(listener)
}

// What a kubelet asks.

func (d *driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: d.name, Endpoint: d.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

func (d *driver) NotifyRegistrationStatus(_ context.Context, said *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !said.PluginRegistered {
		fmt.Fprintln(os.Stderr, "the kubelet refuses the driver:", said.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

// Identity.

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.name, VendorVersion: "1"}, nil
}

func (d *driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	service := &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		{Type: &csi.PluginCapability_Service_{Service: service}},
	}}, nil
}

func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

// Controller: what attaches does nothing, and so does what detaches.

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	attaches := &csi.ControllerServiceCapability_RPC{Type: csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: []*csi.ControllerServiceCapability{
		{Type: &csi.ControllerServiceCapability_Rpc{Rpc: attaches}},
	}}, nil
}

func (d *driver) ControllerPublishVolume(context.Context, *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	return &csi.ControllerPublishVolumeResponse{}, nil
}

func (d *driver) ControllerUnpublishVolume(context.Context, *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}

// Node.

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node}, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

func (d *driver) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	source := filepath.Join(d.folder, filepath.Base(request.GetVolumeId()))
	target := request.GetTargetPath()
	there, err := isMounted(target)
	if err == nil && !there {
		err = os.MkdirAll(target, 0o750)
		if err == nil {
			err = syscall.Mount(source, target, "", syscall.MS_BIND, "")
		}
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "%s is not mounted on %s: %v", source, target, err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *driver) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	target := request.GetTargetPath()
	there, err := isMounted(target)
	if err == nil && there {
		err = syscall.Unmount(target, 0)
	}
	// Never what is in it: a folder that is not empty stays.
	if err == nil {
		if err = os.Remove(target); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "%s is not unmounted: %v", target, err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func isMounted(target string) (bool, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		var id, parent int
		var device, root, place string
		if _, err := fmt.Sscan(line, &id, &parent, &device, &root, &place); err == nil && place == target {
			return true, nil
		}
	}
	return false, nil
}
