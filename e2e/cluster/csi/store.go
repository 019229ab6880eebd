package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// record is what the driver remembers of one volume or snapshot.
type record struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	SizeBytes int64     `json:"sizeBytes"`
	Source    string    `json:"source,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
}

// store keeps subvolumes and their records. A record is written after its subvolume, so that a subvolume without
// a record is the trace of a crash and is made anew.
type store struct {
	pool    string
	limited bool
	locks   sync.Map
}

func openStore(pool string) (*store, error) {
	for _, folder := range []string{"volumes", "snapshots", "records/volumes", "records/snapshots"} {
		if err := os.MkdirAll(filepath.Join(pool, folder), 0o755); err != nil {
			return nil, err
		}
	}
	s := &store{pool: pool, limited: true}
	if err := enableQuota(pool); err != nil {
		s.limited = false
		log.Printf("csi: volume sizes are not enforced: %v", err)
	}
	return s, nil
}

// lock serialises the calls that concern one id.
func (s *store) lock(id string) func() {
	mutex, _ := s.locks.LoadOrStore(id, &sync.Mutex{})
	mutex.(*sync.Mutex).Lock()
	return mutex.(*sync.Mutex).Unlock
}

// idOf derives an id from the caller's name: a repeated request finds what the first one made.
func idOf(kind, name string) string {
	sum := sha256.Sum256([]byte(kind + "/" + name))
	return kind + "-" + hex.EncodeToString(sum[:10])
}

// kindFolder is empty for an id that this driver never made, path tricks included.
func kindFolder(id string) string {
	kind, digest, _ := strings.Cut(id, "-")
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != 10 {
		return ""
	}
	return map[string]string{"vol": "volumes", "snap": "snapshots"}[kind]
}

func (s *store) subvolume(id string) string { return filepath.Join(s.pool, kindFolder(id), id) }

func (s *store) recordPath(id string) string {
	return filepath.Join(s.pool, "records", kindFolder(id), id+".json")
}

// get returns nil without an error where nothing of that id exists.
func (s *store) get(id string) (*record, error) {
	if kindFolder(id) == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(s.recordPath(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found record
	return &found, json.Unmarshal(raw, &found)
}

func (s *store) put(r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	draft := s.recordPath(r.ID) + ".new"
	if err := os.WriteFile(draft, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(draft, s.recordPath(r.ID))
}

// create makes the subvolume of r, empty or from the subvolume of r.Source, then its record.
func (s *store) create(r record) error {
	path := s.subvolume(r.ID)
	if err := deleteSubvolume(path); err != nil {
		return err
	}
	if r.Source == "" {
		if err := createSubvolume(path); err != nil {
			return err
		}
	} else if err := snapshotSubvolume(s.subvolume(r.Source), path, kindFolder(r.ID) == "snapshots"); err != nil {
		return err
	}
	if s.limited && kindFolder(r.ID) == "volumes" {
		if err := limitSubvolume(path, uint64(r.SizeBytes)); err != nil {
			return err
		}
	}
	return s.put(r)
}

// remove deletes the record first: what is left after a crash is a subvolume without a record.
func (s *store) remove(id string) error {
	if kindFolder(id) == "" {
		return nil
	}
	if err := os.Remove(s.recordPath(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return deleteSubvolume(s.subvolume(id))
}

// list returns the records of a kind, ordered by id.
func (s *store) list(folder string) ([]record, error) {
	paths, err := filepath.Glob(filepath.Join(s.pool, "records", folder, "*.json"))
	if err != nil {
		return nil, err
	}
	sort.Strings(paths)
	records := make([]record, 0, len(paths))
	for _, path := range paths {
		found, err := s.get(strings.TrimSuffix(filepath.Base(path), ".json"))
		if err != nil {
			return nil, err
		}
		if found != nil {
			records = append(records, *found)
		}
	}
	return records, nil
}

// capacity returns the total and the free bytes of the pool.
func (s *store) capacity() (total, free int64, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(s.pool, &stat); err != nil {
		return 0, 0, err
	}
	return int64(stat.Blocks) * stat.Bsize, int64(stat.Bavail) * stat.Bsize, nil
}
