package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl numbers and argument layouts: linux/btrfs.h.
const (
	ioctlQuotaControl      = 0xc0109428
	ioctlQgroupLimit       = 0x8030942b
	quotaEnableSimple      = 4
	qgroupLimitMaxReferred = 1
)

type quotaControlArgs struct{ command, status uint64 }

type qgroupLimitArgs struct {
	qgroupID                                          uint64
	flags, maxReferred, maxExclusive, reserved1, resv uint64
}

func run(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(output.String()))
	}
	return nil
}

func createSubvolume(path string) error { return run("btrfs", "subvolume", "create", path) }

func deleteSubvolume(path string) error {
	if _, err := os.Stat(path); os.IsNotExist(err) {
		return nil
	}
	return run("btrfs", "subvolume", "delete", path)
}

func snapshotSubvolume(source, target string, readOnly bool) error {
	if readOnly {
		return run("btrfs", "subvolume", "snapshot", "-r", source, target)
	}
	return run("btrfs", "subvolume", "snapshot", source, target)
}

// enableQuota turns on simple quotas (Linux 6.7), which charge an extent to the subvolume that wrote it and cost
// nothing when a snapshot is taken or deleted. An older kernel refuses: volumes are then not limited in size.
func enableQuota(pool string) error {
	args := quotaControlArgs{command: quotaEnableSimple}
	return ioctl(pool, ioctlQuotaControl, unsafe.Pointer(&args))
}

// limitSubvolume bounds the bytes that may be written to a subvolume; beyond it writes fail with EDQUOT.
func limitSubvolume(path string, bytes uint64) error {
	args := qgroupLimitArgs{flags: qgroupLimitMaxReferred, maxReferred: bytes}
	return ioctl(path, ioctlQgroupLimit, unsafe.Pointer(&args))
}

func ioctl(path string, request uintptr, argument unsafe.Pointer) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, folder.Fd(), request, uintptr(argument)); errno != 0 {
		return fmt.Errorf("ioctl %#x on %s: %w", request, path, errno)
	}
	return nil
}
