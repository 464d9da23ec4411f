package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"path"
)

// caName names a CA, and the file that keeps it.
type caName string

const (
	osCA         caName = "os"
	etcdCA       caName = "etcd"
	kubernetesCA caName = "kubernetes"
	frontProxyCA caName = "front-proxy"
	kubeletCA    caName = "kubelet" // of the kubelet's serving certificate
)

// titles are the CAs' common names, by which a certificate tells who signed it.
var titles = map[caName]string{
	osCA:         "Dactyl OS CA",
	etcdCA:       "Dactyl etcd CA",
	kubernetesCA: "Dactyl Kubernetes CA",
	frontProxyCA: "Dactyl front-proxy CA",
	kubeletCA:    "Dactyl kubelet CA",
}

// kubernetesCAs are those that a cluster has had from its first day; addedCAs are what
// later versions have added, and are made where they are missing.
var (
	kubernetesCAs = []caName{etcdCA, kubernetesCA, frontProxyCA}
	addedCAs      = []caName{kubeletCA}
)

const (
	kubernetesFolder   = "kubernetes"
	serviceAccountFile = kubernetesFolder + "/service-account.pem"
	encryptionFile     = kubernetesFolder + "/encryption.key"

	encryptionBytes = 32 // what secretbox takes
)

func (n caName) file() string { return path.Join(kubernetesFolder, string(n)+".pem") }

// identity is what makes a cluster this one: the state keeps it.
type identity struct {
	authorities    map[caName]*authority
	serviceAccount *ecdsa.PrivateKey // signs tokens
	signing        []byte            // the same as it is kept
	encryption     []byte            // of Secrets in etcd
}

// source returns a file of the state. One that is not there it may make of content.
type source func(name string, content func() ([]byte, error)) ([]byte, error)

// openIdentity reads the cluster's identity by get, and by add what later versions have
// added to it.
func openIdentity(get, add source, random io.Reader) (*identity, error) {
	i := &identity{authorities: map[caName]*authority{}}
	if err := i.readCAs(kubernetesCAs, get, random); err != nil {
		return nil, err
	}
	var err error
	i.signing, err = get(serviceAccountFile, func() ([]byte, error) { _, kept, err := makeKey(random); return kept, err })
	if err != nil {
		return nil, err
	}
	if i.serviceAccount, err = parseKey(serviceAccountFile, i.signing); err != nil {
		return nil, err
	}
	i.encryption, err = get(encryptionFile, func() ([]byte, error) { return randomBytes(random, encryptionBytes) })
	if err != nil {
		return nil, err
	}
	if len(i.encryption) != encryptionBytes {
		return nil, fmt.Errorf("%s: %w: %d bytes instead of %d", encryptionFile, errDamaged, len(i.encryption), encryptionBytes)
	}
	return i, i.readCAs(addedCAs, add, random)
}

func (i *identity) readCAs(names []caName, get source, random io.Reader) error {
	for _, n := range names {
		kept, err := get(n.file(), func() ([]byte, error) { return makeAuthority(n, random) })
		if err != nil {
			return err
		}
		if i.authorities[n], err = parseAuthority(n.file(), kept, random); err != nil {
			return err
		}
	}
	return nil
}

func randomBytes(random io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("make a secret: %w", err)
	}
	return b, nil
}

func certificateOf(n caName) func(*identity) []byte {
	return func(i *identity) []byte { return encodePEM(pemCertificate, i.authorities[n].certificate.Raw) }
}

func (i *identity) signingKey() []byte { return i.signing }

func (i *identity) verifyingKey() []byte {
	der, err := x509.MarshalPKIXPublicKey(i.serviceAccount.Public())
	if err != nil {
		panic("BUG: a P-256 key has no encoding: " + err.Error())
	}
	return encodePEM(pemPublicKey, der)
}

// encryptionYAML has no provider "identity": what is in etcd unencrypted was not put
// there by this cluster's API server, which then refuses to read it.
func (i *identity) encryptionYAML() []byte {
	return fmt.Appendf(nil, `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - secrets
  providers:
  - secretbox:
      keys:
      - name: first
        secret: %s
`, base64.StdEncoding.EncodeToString(i.encryption))
}
