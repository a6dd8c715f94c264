package apiserver

import (
	"context"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// tokenSeconds is longer than any test.
const tokenSeconds = 2 * 60 * 60

// Kubeconfig writes a kubeconfig of a service account, with a token that the
// server issues, and returns its path. host is a Front's, or the server's own
// where it is empty. The context in it is named as the server.
func (s *Server) Kubeconfig(tb testing.TB, namespace, serviceAccount, host string) string {
	tb.Helper()
	seconds := int64(tokenSeconds)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	token := must(s.Client(tb).CoreV1().ServiceAccounts(namespace).
		CreateToken(context.Background(), serviceAccount, request, metav1.CreateOptions{}))(tb)
	return s.kubeconfig(tb, host, &api.AuthInfo{Token: token.Status.Token})
}

// AdminKubeconfig is a kubeconfig that may do everything.
func (s *Server) AdminKubeconfig(tb testing.TB) string {
	tb.Helper()
	return s.kubeconfig(tb, "", &api.AuthInfo{ClientCertificateData: s.admin.CertData, ClientKeyData: s.admin.KeyData})
}

func (s *Server) kubeconfig(tb testing.TB, host string, user *api.AuthInfo) string {
	tb.Helper()
	if host == "" {
		host = s.URL()
	}
	config := api.NewConfig()
	config.Clusters[s.Name] = &api.Cluster{Server: host, CertificateAuthorityData: s.ca.pem}
	config.AuthInfos[s.Name] = user
	config.Contexts[s.Name] = &api.Context{Cluster: s.Name, AuthInfo: s.Name}
	config.CurrentContext = s.Name
	return write(tb, tb.TempDir(), "kubeconfig", must(clientcmd.Write(*config))(tb))
}
