package local

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/holdfast-storage/holdfast/state/embedded"
)

// variable is the environment's that makes a program a member.
const variable = "HOLDFAST_BENCH_MEMBER"

// member is what one is started with.
type member struct{ Name, Dir, Peer, Initial, Token string }

// ServeMember is a member's whole life, where this process was started to be one;
// elsewhere it returns at once. A member ends when its standard input does, with
// exit code 0.
func ServeMember() {
	config := os.Getenv(variable)
	if config == "" {
		return
	}
	// Those come to the whole group, and who started it cleans up first.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	if err := serve(config); err != nil {
		fmt.Fprintln(os.Stderr, "etcd member:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(config string) error {
	var m member
	if err := json.Unmarshal([]byte(config), &m); err != nil {
		return err
	}
	peer, err := url.Parse(m.Peer)
	if err != nil {
		return err
	}
	server, err := embedded.Start(context.Background(), embedded.Config{
		Dir: m.Dir, ListenClient: "127.0.0.1:0",
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Tune: func(c *embed.Config) {
			c.Name, c.InitialCluster, c.InitialClusterToken = m.Name, m.Initial, m.Token
			c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
		},
	})
	if err != nil {
		return err
	}
	fmt.Println(server.Endpoint())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return server.Close()
}
