package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// maxPasswordBytes is more than bcrypt, by which etcd keeps it, looks at.
const maxPasswordBytes = 4 << 10

// ReadPassword reads a file with a password: all of it but the line's end. What
// is wrong with it is an error that does not say what is in it.
func ReadPassword(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(data), "\r\n")
	switch {
	case password == "":
		return "", fmt.Errorf("%q: expected a password in it, and it is empty", file)
	case len(password) > maxPasswordBytes:
		return "", fmt.Errorf("%q: expected a password of at most %d bytes, and it has %d", file, maxPasswordBytes, len(password))
	}
	return password, nil
}

// login puts the password as its file has it now into each request for a token.
// etcd's client asks for one anew when the last has expired, or when somebody has
// changed the password.
type login struct {
	file string

	mu   sync.Mutex
	last string // the password that was taken last
}

// intercept tries the file's password, and then the one that was taken last: a
// file may be ahead of etcd.
//
//nolint:revive // the arguments are gRPC's
func (l *login) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	asked, is := req.(*pb.AuthenticateRequest)
	if !is {
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	send := func(password string) error {
		err := invoke(ctx, method, &pb.AuthenticateRequest{Name: asked.Name, Password: password}, reply, conn, opts...)
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.last = password
		}
		return err
	}
	password, unread := ReadPassword(l.file)
	if unread != nil {
		password = last
	}
	err := send(password)
	if errors.Is(rpctypes.Error(err), rpctypes.ErrAuthFailed) && password != last {
		return send(last)
	}
	return err
}
