package main

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// schema is what reflection tells: the services of the table and the files that describe
// them, which are read when somebody asks. Few do, and they hold most of a megabyte.
type schema struct {
	files    func() (protodesc.Resolver, error)
	services map[string]grpc.ServiceInfo
}

func readSchema(path string, t table) (*schema, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return newSchema(sync.OnceValues(func() (protodesc.Resolver, error) {
		files, err := parseFiles(b)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		return files, nil
	}), t), nil
}

func parseFiles(b []byte) (*protoregistry.Files, error) {
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(b, set); err != nil {
		return nil, err
	}
	return protodesc.NewFiles(set)
}

func newSchema(files func() (protodesc.Resolver, error), t table) *schema {
	s := &schema{files: files, services: map[string]grpc.ServiceInfo{}}
	for path := range t {
		service, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		s.services[service] = grpc.ServiceInfo{}
	}
	return s
}

// GetServiceInfo implements reflection.ServiceInfoProvider.
func (s *schema) GetServiceInfo() map[string]grpc.ServiceInfo { return s.services }

// FindFileByPath implements protodesc.Resolver.
func (s *schema) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	return files.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (s *schema) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	return files.FindDescriptorByName(name)
}
