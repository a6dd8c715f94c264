package embedded

import (
	"context"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// streams ends the clients' watches and keep-alives when the server closes.
// Without it etcd's own shutdown waits up to seven seconds for clients to end
// them, and they have no reason to.
type streams struct {
	ctx context.Context //nolint:containedctx // the server's life, which is no caller's
	end context.CancelFunc
}

func newStreams() *streams {
	ctx, cancel := context.WithCancel(context.Background())
	return &streams{ctx: ctx, end: cancel}
}

// intercept runs one stream. It must be the outermost interceptor: etcd's own
// gives a stream's context errors of its own (that there is no leader), which
// a context made from that one would hide.
//
// A stream that ends because the server closes ends with etcd's own "server
// stopped", on which clients connect again; what etcd would answer to a
// cancelled stream makes a client's watch end for good.
func (s *streams) intercept(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if s.ctx.Err() != nil {
		return rpctypes.ErrGRPCStopped
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	err := handler(srv, &endingStream{ServerStream: stream, ctx: ctx, server: s.ctx})
	if s.ctx.Err() != nil {
		return rpctypes.ErrGRPCStopped
	}
	return err
}

// endingStream is a stream whose context ends when the server closes.
type endingStream struct {
	grpc.ServerStream
	ctx, server context.Context //nolint:containedctx // a stream's context is part of its interface
}

func (s *endingStream) Context() context.Context { return s.ctx }

// SendMsg says nothing more once the server closes. A watch that is asked for
// just then finds its stream closed, which etcd reports as an empty range: an
// answer that would end the client's watch for good.
func (s *endingStream) SendMsg(message any) error {
	if s.server.Err() != nil {
		return rpctypes.ErrGRPCStopped
	}
	return s.ServerStream.SendMsg(message)
}
