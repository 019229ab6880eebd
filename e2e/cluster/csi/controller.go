package main

import (
	"context"
	"strconv"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const defaultSizeBytes = 1 << 30

// controller creates, deletes and lists volumes and snapshots.
type controller struct {
	csi.UnimplementedControllerServer
	store *store
}

func internal(err error) error { return status.Error(codes.Internal, err.Error()) }

func (c *controller) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	var capabilities []*csi.ControllerServiceCapability
	for _, kind := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		rpc := &csi.ControllerServiceCapability_RPC{Type: kind}
		capabilities = append(capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: rpc},
		})
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: capabilities}, nil
}

func (c *controller) CreateVolume(
	_ context.Context, request *csi.CreateVolumeRequest,
) (*csi.CreateVolumeResponse, error) {
	if request.GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume needs a name")
	}
	if err := checkCapabilities(request.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	id := idOf("vol", request.GetName())
	defer c.store.lock(id)()
	wanted := record{
		ID: id, Name: request.GetName(), Source: sourceOf(request.GetVolumeContentSource()), CreatedAt: time.Now(),
	}
	existing, err := c.store.get(id)
	if err != nil {
		return nil, internal(err)
	}
	if existing != nil {
		if existing.Source != wanted.Source || !fits(existing.SizeBytes, request.GetCapacityRange()) {
			return nil, status.Errorf(codes.AlreadyExists, "volume %s exists with another size or source", request.GetName())
		}
		return volumeResponse(*existing, request.GetVolumeContentSource()), nil
	}
	if wanted.SizeBytes, err = c.chooseSize(request.GetCapacityRange(), wanted.Source); err != nil {
		return nil, err
	}
	if err := c.store.create(wanted); err != nil {
		return nil, internal(err)
	}
	return volumeResponse(wanted, request.GetVolumeContentSource()), nil
}

func volumeResponse(r record, source *csi.VolumeContentSource) *csi.CreateVolumeResponse {
	return &csi.CreateVolumeResponse{
		Volume: &csi.Volume{VolumeId: r.ID, CapacityBytes: r.SizeBytes, ContentSource: source},
	}
}

func sourceOf(source *csi.VolumeContentSource) string {
	if snapshot := source.GetSnapshot(); snapshot != nil {
		return snapshot.GetSnapshotId()
	}
	return source.GetVolume().GetVolumeId()
}

func fits(size int64, wanted *csi.CapacityRange) bool {
	return size >= wanted.GetRequiredBytes() && (wanted.GetLimitBytes() == 0 || size <= wanted.GetLimitBytes())
}

// chooseSize returns the size of a new volume; a copy is never smaller than what it copies.
func (c *controller) chooseSize(wanted *csi.CapacityRange, source string) (int64, error) {
	size := wanted.GetRequiredBytes()
	if size == 0 {
		size = defaultSizeBytes
		if limit := wanted.GetLimitBytes(); limit > 0 && limit < size {
			size = limit
		}
	}
	if source != "" {
		origin, err := c.store.get(source)
		if err != nil {
			return 0, internal(err)
		}
		if origin == nil {
			return 0, status.Errorf(codes.NotFound, "the source %s does not exist", source)
		}
		if wanted.GetRequiredBytes() != 0 && size < origin.SizeBytes {
			return 0, status.Errorf(codes.OutOfRange, "%d bytes cannot hold a copy of %d bytes", size, origin.SizeBytes)
		}
		size = max(size, origin.SizeBytes)
	}
	total, _, err := c.store.capacity()
	if err != nil {
		return 0, internal(err)
	}
	if size > total || !fits(size, wanted) {
		return 0, status.Errorf(codes.OutOfRange, "%d bytes are not to be had: the pool holds %d", size, total)
	}
	return size, nil
}

func (c *controller) DeleteVolume(
	_ context.Context, request *csi.DeleteVolumeRequest,
) (*csi.DeleteVolumeResponse, error) {
	if request.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume id is missing")
	}
	defer c.store.lock(request.GetVolumeId())()
	if err := c.store.remove(request.GetVolumeId()); err != nil {
		return nil, internal(err)
	}
	return &csi.DeleteVolumeResponse{}, nil
}

func (c *controller) ValidateVolumeCapabilities(
	_ context.Context, request *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if request.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume id is missing")
	}
	if len(request.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "the volume capabilities are missing")
	}
	found, err := c.store.get(request.GetVolumeId())
	if err != nil {
		return nil, internal(err)
	}
	if found == nil {
		return nil, status.Errorf(codes.NotFound, "volume %s does not exist", request.GetVolumeId())
	}
	if err := checkCapabilities(request.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
			VolumeCapabilities: request.GetVolumeCapabilities(),
		},
	}, nil
}

// checkCapabilities refuses block devices: a subvolume is a folder.
func checkCapabilities(capabilities []*csi.VolumeCapability) error {
	if len(capabilities) == 0 {
		return status.Error(codes.InvalidArgument, "the volume capabilities are missing")
	}
	for _, capability := range capabilities {
		if capability.GetBlock() != nil {
			return status.Error(codes.InvalidArgument, "volumeMode Block is not offered: use Filesystem")
		}
		if capability.GetMount() == nil {
			return status.Error(codes.InvalidArgument, "the access type is missing")
		}
	}
	return nil
}

func (c *controller) GetCapacity(context.Context, *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	_, free, err := c.store.capacity()
	if err != nil {
		return nil, internal(err)
	}
	return &csi.GetCapacityResponse{AvailableCapacity: free}, nil
}

func (c *controller) ListVolumes(
	_ context.Context, request *csi.ListVolumesRequest,
) (*csi.ListVolumesResponse, error) {
	records, err := c.store.list("volumes")
	if err != nil {
		return nil, internal(err)
	}
	page, next, err := pageOf(records, request.GetStartingToken(), request.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	response := &csi.ListVolumesResponse{NextToken: next}
	for _, r := range page {
		volume := &csi.Volume{VolumeId: r.ID, CapacityBytes: r.SizeBytes}
		response.Entries = append(response.Entries, &csi.ListVolumesResponse_Entry{Volume: volume})
	}
	return response, nil
}

// pageOf cuts one page out of records; the token is the index of the next one.
func pageOf(records []record, token string, limit int32) (page []record, next string, err error) {
	start := 0
	if token != "" {
		if start, err = strconv.Atoi(token); err != nil || start < 0 || start > len(records) {
			return nil, "", status.Errorf(codes.Aborted, "the token %q is not one of ours", token)
		}
	}
	end := len(records)
	if limit > 0 && start+int(limit) < end {
		end = start + int(limit)
		next = strconv.Itoa(end)
	}
	return records[start:end], next, nil
}

func (c *controller) CreateSnapshot(
	_ context.Context, request *csi.CreateSnapshotRequest,
) (*csi.CreateSnapshotResponse, error) {
	if request.GetName() == "" || request.GetSourceVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the snapshot needs a name and a source volume")
	}
	id := idOf("snap", request.GetName())
	defer c.store.lock(id)()
	existing, err := c.store.get(id)
	if err != nil {
		return nil, internal(err)
	}
	if existing != nil {
		if existing.Source != request.GetSourceVolumeId() {
			return nil, status.Errorf(codes.AlreadyExists, "snapshot %s is one of another volume", request.GetName())
		}
		return &csi.CreateSnapshotResponse{Snapshot: snapshotOf(*existing)}, nil
	}
	volume, err := c.store.get(request.GetSourceVolumeId())
	if err != nil {
		return nil, internal(err)
	}
	if volume == nil {
		return nil, status.Errorf(codes.NotFound, "volume %s does not exist", request.GetSourceVolumeId())
	}
	taken := record{ID: id, Name: request.GetName(), SizeBytes: volume.SizeBytes, Source: volume.ID, CreatedAt: time.Now()}
	if err := c.store.create(taken); err != nil {
		return nil, internal(err)
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshotOf(taken)}, nil
}

func snapshotOf(r record) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId: r.ID, SourceVolumeId: r.Source, SizeBytes: r.SizeBytes,
		CreationTime: timestamppb.New(r.CreatedAt), ReadyToUse: true,
	}
}

func (c *controller) DeleteSnapshot(
	_ context.Context, request *csi.DeleteSnapshotRequest,
) (*csi.DeleteSnapshotResponse, error) {
	if request.GetSnapshotId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the snapshot id is missing")
	}
	defer c.store.lock(request.GetSnapshotId())()
	if err := c.store.remove(request.GetSnapshotId()); err != nil {
		return nil, internal(err)
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

func (c *controller) ListSnapshots(
	_ context.Context, request *csi.ListSnapshotsRequest,
) (*csi.ListSnapshotsResponse, error) {
	records, err := c.store.list("snapshots")
	if err != nil {
		return nil, internal(err)
	}
	var chosen []record
	for _, r := range records {
		isWanted := request.GetSnapshotId() == "" || request.GetSnapshotId() == r.ID
		if isWanted && (request.GetSourceVolumeId() == "" || request.GetSourceVolumeId() == r.Source) {
			chosen = append(chosen, r)
		}
	}
	page, next, err := pageOf(chosen, request.GetStartingToken(), request.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	response := &csi.ListSnapshotsResponse{NextToken: next}
	for _, r := range page {
		response.Entries = append(response.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: snapshotOf(r)})
	}
	return response, nil
}
