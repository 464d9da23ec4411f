package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/pods"
)

// vault keeps the registries' credentials on STATE and gives them to the kubelet.
type vault struct {
	kept  string // a file that podd alone reads
	given string // a file in the share of the pods' domain

	mu sync.Mutex // held while the files are changed
}

const (
	keptMode  = 0o600
	givenMode = 0o640 // the share's group is the receiver's
)

// read returns what is kept. A file that cannot be read is an error: to write over it
// would lose what is in it.
func (v *vault) read() ([]credential, error) {
	text, err := os.ReadFile(v.kept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []credential
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read the registries' credentials: %w", err)
	}
	return all, nil
}

// give makes the kubelet's file say what is kept.
func (v *vault) give() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	all, err := v.read()
	if err != nil {
		return err
	}
	return v.giveLocked(all)
}

func (v *vault) giveLocked(all []credential) error {
	if err := os.Mkdir(filepath.Dir(v.given), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("give the registries' credentials: %w", err)
	}
	if err := replaceFile(v.given, dockerConfig(all), givenMode); err != nil {
		return fmt.Errorf("give the registries' credentials: %w", err)
	}
	return nil
}

// change keeps and gives what f makes of the credentials.
func (v *vault) change(f func([]credential) ([]credential, error)) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	all, err := v.read()
	if err != nil {
		return err
	}
	if all, err = f(all); err != nil {
		return err
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := replaceFile(v.kept, text, keptMode); err != nil {
		return fmt.Errorf("store the registries' credentials: %w", err)
	}
	return v.giveLocked(all)
}

// replaceFile makes the file have this content, all of it or the old one.
func replaceFile(name string, content []byte, mode fs.FileMode) error {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, content) {
		return nil
	}
	// One name, so that what a power cut leaves is overwritten by the next.
	f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // where it has not become the file
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// SetRegistryCredential implements pods.Server.
func (s *server) SetRegistryCredential(_ context.Context, r *pods.SetRegistryCredentialRequest) (*pods.SetRegistryCredentialResponse, error) {
	c := credential{r.Registry, r.Username, r.Password}
	if why := c.wrong(); why != "" {
		return nil, status.Error(codes.InvalidArgument, why)
	}
	err := s.vault.change(func(all []credential) ([]credential, error) {
		all = with(all, c)
		if len(all) > maxCredentials {
			return nil, status.Errorf(codes.ResourceExhausted, "there are credentials for %d registries already: remove one first", maxCredentials)
		}
		return all, nil
	})
	if err != nil {
		return nil, answer(err)
	}
	s.log.Info("credential stored", "registry", c.Registry, "username", c.Username)
	return &pods.SetRegistryCredentialResponse{}, nil
}

// RemoveRegistryCredential implements pods.Server.
func (s *server) RemoveRegistryCredential(_ context.Context, r *pods.RemoveRegistryCredentialRequest) (*pods.RemoveRegistryCredentialResponse, error) {
	err := s.vault.change(func(all []credential) ([]credential, error) {
		if !slices.ContainsFunc(all, func(c credential) bool { return c.Registry == r.Registry }) {
			return nil, status.Errorf(codes.NotFound, "there is no credential for %q", r.Registry)
		}
		return without(all, r.Registry), nil
	})
	if err != nil {
		return nil, answer(err)
	}
	s.log.Info("credential removed", "registry", r.Registry)
	return &pods.RemoveRegistryCredentialResponse{}, nil
}

// ListRegistryCredentials implements pods.Server.
func (s *server) ListRegistryCredentials(context.Context, *pods.ListRegistryCredentialsRequest) (*pods.ListRegistryCredentialsResponse, error) {
	all, err := s.vault.read()
	if err != nil {
		return nil, answer(err)
	}
	r := &pods.ListRegistryCredentialsResponse{}
	for _, c := range all {
		r.Credentials = append(r.Credentials, &pods.RegistryCredential{Registry: c.Registry, Username: c.Username})
	}
	return r, nil
}
