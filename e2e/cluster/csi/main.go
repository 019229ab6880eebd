// Command csi serves the subvolumes of one btrfs file system as Kubernetes volumes.
//
// A volume is a subvolume, a snapshot is a read-only btrfs snapshot of it (atomic, constant time), a restored or
// cloned volume is a writable snapshot. The driver also serves the kubelet's plugin registration socket.
package main

import (
	"flag"
	"log"
	"net"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	driverName    = "btrfs.csi.headroom.dev"
	driverVersion = "1.0.0"
)

func main() {
	pool := flag.String("pool", "", "mounted btrfs file system that holds the volumes")
	socket := flag.String("socket", "", "path of the CSI socket")
	registrationDir := flag.String("registration-dir", "", "kubelet's plugins_registry folder; empty: no registration")
	nodeID := flag.String("node-id", "", "name of this node")
	faultFile := flag.String("faults", "", "JSON file with the faults to inject; empty: none")
	flag.Parse()
	if *pool == "" || *socket == "" || *nodeID == "" {
		log.Fatal("csi: --pool, --socket and --node-id are required")
	}
	store, err := openStore(*pool)
	if err != nil {
		log.Fatalf("csi: cannot open the pool %s: %v", *pool, err)
	}
	injector := newFaultInjector(*faultFile)
	server := grpc.NewServer(grpc.UnaryInterceptor(injector.intercept))
	csi.RegisterIdentityServer(server, identity{})
	csi.RegisterControllerServer(server, &controller{store: store})
	csi.RegisterNodeServer(server, &node{store: store, id: *nodeID})
	if *registrationDir != "" {
		go serveRegistration(filepath.Join(*registrationDir, driverName+"-reg.sock"), *socket)
	}
	log.Printf("csi: %s on node %s serves %s", driverName, *nodeID, *socket)
	log.Fatal(server.Serve(listen(*socket)))
}

// serveRegistration tells the kubelet where the CSI socket is.
func serveRegistration(path, csiSocket string) {
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, registrar{endpoint: csiSocket})
	log.Fatal(server.Serve(listen(path)))
}

// listen binds a Unix socket, taking the place of one that a killed driver left behind.
func listen(path string) net.Listener {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		log.Fatal(err)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}
