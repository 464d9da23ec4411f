package packages

import (
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// CertificatesPath is where the image has the CA certificates that registries, and other
// servers on the internet, have theirs from. Go and OpenSSL look here.
const CertificatesPath = "/etc/ssl/certs/ca-certificates.crt"

const (
	certificatesPackage = "ca-certificates"
	certificatesDir     = "/usr/share/ca-certificates/mozilla/"
)

// certificates makes one file of Mozilla's CA certificates. The build machine's own
// CertificatesPath is not taken: it also has what was added to that machine.
func certificates(ctx context.Context) (DebianFile, error) {
	p, err := DescribeDebian(ctx, certificatesPackage)
	if err != nil {
		return DebianFile{}, err
	}
	list, err := output(ctx, "dpkg-query", "-L", certificatesPackage)
	if err != nil {
		return DebianFile{}, fmt.Errorf("files of the package %s: %w", certificatesPackage, err)
	}
	var sources []DebianFile
	for path := range strings.Lines(list) {
		if path = strings.TrimSpace(path); strings.HasPrefix(path, certificatesDir) {
			sources = append(sources, DebianFile{File: File{From: path}, DebianPackage: p})
		}
	}
	if err := verify(ctx, sources); err != nil {
		return DebianFile{}, err
	}
	bundle, err := bundle(sources)
	if err != nil {
		return DebianFile{}, err
	}
	from, err := keepCertificates(bundle)
	return DebianFile{File{"ca-certificates", from, CertificatesPath, nil}, p}, err
}

// bundle is the certificates of all files, each as PEM without comments.
func bundle(sources []DebianFile) (string, error) {
	slices.SortFunc(sources, func(a, b DebianFile) int { return strings.Compare(a.From, b.From) })
	var all strings.Builder
	for _, f := range sources {
		text, err := os.ReadFile(f.From)
		if err != nil {
			return "", err
		}
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" || len(strings.TrimSpace(string(rest))) > 0 {
			return "", fmt.Errorf("%s is not one certificate", f.From)
		}
		if err := pem.Encode(&all, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return "", err
		}
	}
	if all.Len() == 0 {
		return "", fmt.Errorf("the package %s has no certificates in %s", certificatesPackage, certificatesDir)
	}
	return all.String(), nil
}

// keepCertificates returns a file of the cache with this content.
func keepCertificates(text string) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "ca-certificates-"+hashText(text)[:20])
	path := filepath.Join(dir, filepath.Base(CertificatesPath))
	if exists(path) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// Two builds may be here at once: the file appears complete.
	tmp, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(text)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if end := tmp.Close(); err == nil {
		err = end
	}
	if err != nil {
		return "", err
	}
	return path, os.Rename(tmp.Name(), path)
}
