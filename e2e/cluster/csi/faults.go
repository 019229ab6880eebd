package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"path"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fault is what happens to the calls of one method, as the fault file says it:
//
//	{"CreateSnapshot": {"delaySeconds": 5}, "CreateVolume": {"fail": "RESOURCE_EXHAUSTED", "times": 2},
//	 "NodePublishVolume": {"hang": true}, "DeleteVolume": {"fail": "UNAVAILABLE", "after": true}}
//
// A hanging call waits until its fault is gone from the file or the caller gives up. After means that the work is
// done and only the answer is lost. Times bounds how many calls are met; zero is no bound.
type fault struct {
	DelaySeconds float64    `json:"delaySeconds"`
	Fail         codes.Code `json:"fail"`
	Message      string     `json:"message"`
	Hang         bool       `json:"hang"`
	After        bool       `json:"after"`
	Times        int        `json:"times"`
}

// faultInjector reads its file at each call; counts start again when the file is written again.
type faultInjector struct {
	path     string
	mutex    sync.Mutex
	modified time.Time
	met      map[string]int
}

func newFaultInjector(path string) *faultInjector {
	return &faultInjector{path: path, met: map[string]int{}}
}

// take returns the fault that this call of method has to meet, or nil.
func (f *faultInjector) take(method string) *fault {
	if f.path == "" {
		return nil
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return nil
	}
	if !info.ModTime().Equal(f.modified) {
		f.modified, f.met = info.ModTime(), map[string]int{}
	}
	found := f.read()[method]
	if found == nil || (found.Times > 0 && f.met[method] >= found.Times) {
		return nil
	}
	f.met[method]++
	return found
}

func (f *faultInjector) read() map[string]*fault {
	raw, err := os.ReadFile(f.path)
	if err != nil {
		return nil
	}
	faults := map[string]*fault{}
	if err := json.Unmarshal(raw, &faults); err != nil {
		log.Printf("csi: the fault file is ignored: %v", err)
		return nil
	}
	return faults
}

func (f *faultInjector) isHanging(method string) bool {
	found := f.read()[method]
	return found != nil && found.Hang
}

func (f *faultInjector) intercept(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	method := path.Base(info.FullMethod)
	met := f.take(method)
	if met == nil {
		return logged(ctx, method, request, handler)
	}
	log.Printf("csi: fault on %s: %+v", method, *met)
	if err := pause(ctx, time.Duration(met.DelaySeconds*float64(time.Second))); err != nil {
		return nil, err
	}
	for met.Hang && f.isHanging(method) {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	if met.Fail == codes.OK {
		return logged(ctx, method, request, handler)
	}
	if met.After {
		if _, err := logged(ctx, method, request, handler); err != nil {
			return nil, err
		}
	}
	return nil, status.Errorf(met.Fail, "injected fault: %s", met.Message)
}

func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-time.After(length):
		return nil
	}
}

// logged calls the handler and logs what changes something or fails.
func logged(ctx context.Context, method string, request any, handler grpc.UnaryHandler) (any, error) {
	start := time.Now()
	response, err := handler(ctx, request)
	if err != nil {
		log.Printf("csi: %s failed after %s: %v", method, time.Since(start), err)
	} else if quiet := map[string]bool{
		"Probe": true, "GetPluginInfo": true, "NodeGetCapabilities": true, "NodeGetVolumeStats": true, "GetCapacity": true,
	}; !quiet[method] {
		log.Printf("csi: %s took %s", method, time.Since(start))
	}
	return response, err
}
