package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// node publishes volumes to pods by bind mounts.
type node struct {
	csi.UnimplementedNodeServer
	store *store
	id    string
}

func (n *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.id}, nil
}

func (n *node) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	var capabilities []*csi.NodeServiceCapability
	for _, kind := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		rpc := &csi.NodeServiceCapability_RPC{Type: kind}
		capabilities = append(capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: rpc},
		})
	}
	return &csi.NodeGetCapabilitiesResponse{Capabilities: capabilities}, nil
}

func (n *node) NodePublishVolume(
	_ context.Context, request *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	target := request.GetTargetPath()
	if request.GetVolumeId() == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume id or the target path is missing")
	}
	if request.GetVolumeCapability() == nil {
		return nil, status.Error(codes.InvalidArgument, "the volume capability is missing")
	}
	defer n.store.lock(request.GetVolumeId())()
	found, err := n.store.get(request.GetVolumeId())
	if err != nil {
		return nil, internal(err)
	}
	if found == nil {
		return nil, status.Errorf(codes.NotFound, "volume %s does not exist", request.GetVolumeId())
	}
	if isMounted, err := isMountPoint(target); err != nil {
		return nil, internal(err)
	} else if isMounted {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if err := bind(n.store.subvolume(found.ID), target, request.GetReadonly()); err != nil {
		return nil, internal(err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func bind(source, target string, readOnly bool) error {
	if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if readOnly {
		return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	return nil
}

func (n *node) NodeUnpublishVolume(
	_ context.Context, request *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	target := request.GetTargetPath()
	if request.GetVolumeId() == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume id or the target path is missing")
	}
	defer n.store.lock(request.GetVolumeId())()
	for {
		isMounted, err := isMountPoint(target)
		if err != nil {
			return nil, internal(err)
		}
		if !isMounted {
			break
		}
		if err := unix.Unmount(target, 0); err != nil {
			return nil, internal(err)
		}
	}
	if err := os.Remove(target); err != nil && !os.IsNotExist(err) {
		return nil, internal(err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// isMountPoint asks the mount table: a bind mount within one file system does not show in the device number.
func isMountPoint(path string) (bool, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	return mountTableHas(string(table), filepath.Clean(path)), nil
}

// mountTableHas tells whether a mountinfo table has a mount at path; spaces are octal escapes in that table.
func mountTableHas(table, path string) bool {
	escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`).Replace(path)
	for _, line := range strings.Split(table, "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == escaped {
			return true
		}
	}
	return false
}

func (n *node) NodeGetVolumeStats(
	_ context.Context, request *csi.NodeGetVolumeStatsRequest,
) (*csi.NodeGetVolumeStatsResponse, error) {
	if request.GetVolumeId() == "" || request.GetVolumePath() == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume id or the volume path is missing")
	}
	found, err := n.store.get(request.GetVolumeId())
	if err != nil {
		return nil, internal(err)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(request.GetVolumePath(), &stat); found == nil || err != nil {
		return nil, status.Errorf(codes.NotFound, "no volume %s at %s", request.GetVolumeId(), request.GetVolumePath())
	}
	used, err := usedBytes(n.store.subvolume(found.ID))
	if err != nil {
		return nil, internal(err)
	}
	free := min(max(found.SizeBytes-used, 0), int64(stat.Bavail)*stat.Bsize)
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: found.SizeBytes, Used: used, Available: free},
	}}, nil
}

// usedBytes adds up the blocks of all files below path, as du does.
func usedBytes(path string) (int64, error) {
	var total int64
	err := filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if stat, isUnix := info.Sys().(*syscall.Stat_t); isUnix {
			total += stat.Blocks * 512
		}
		return nil
	})
	return total, err
}
