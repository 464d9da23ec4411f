package main

import (
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// schema is what reflection tells: the services of the table and the files
// that describe them.
type schema struct {
	files    *protoregistry.Files
	services map[string]grpc.ServiceInfo
}

func readSchema(path string, t table) (*schema, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(b, set); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return newSchema(files, t), nil
}

func newSchema(files *protoregistry.Files, t table) *schema {
	s := &schema{files: files, services: map[string]grpc.ServiceInfo{}}
	for path := range t {
		service, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		s.services[service] = grpc.ServiceInfo{}
	}
	return s
}

// GetServiceInfo implements reflection.ServiceInfoProvider.
func (s *schema) GetServiceInfo() map[string]grpc.ServiceInfo { return s.services }
