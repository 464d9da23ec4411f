// Command proto compiles the .proto files into Go: messages, and the typed
// server and client of each service. It needs no protoc.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// patterns are where .proto files are: Dactyl's own interfaces, and others' that one daemon
// uses.
var patterns = []string{"ipc/*/*.proto", "daemons/*/internal/*/*.proto"}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "proto:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var sources []string
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			return err
		}
		sources = append(sources, found...)
	}
	if len(sources) == 0 {
		return fmt.Errorf("no %s here: run it in the repository's root", patterns[0])
	}
	sort.Strings(sources)
	request, err := compile(ctx, sources)
	if err != nil {
		return err
	}
	plugin, err := protogen.Options{}.New(request)
	if err != nil {
		return err
	}
	for _, f := range plugin.Files {
		if !f.Generate {
			continue
		}
		internal_gengo.GenerateFile(plugin, f)
		generateService(plugin, f)
	}
	return write(plugin.Response())
}

// compile turns sources into what a protoc plugin is given: all files with
// their imports, dependencies first, comments kept.
func compile(ctx context.Context, sources []string) (*pluginpb.CodeGeneratorRequest, error) {
	c := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := c.Compile(ctx, sources...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: sources,
		Parameter:      proto.String("paths=source_relative"),
	}
	seen := map[string]bool{}
	for _, f := range files {
		collect(f, seen, &request.ProtoFile)
	}
	return request, nil
}

func collect(f protoreflect.FileDescriptor, seen map[string]bool, into *[]*descriptorpb.FileDescriptorProto) {
	if seen[f.Path()] {
		return
	}
	seen[f.Path()] = true
	for i := range f.Imports().Len() {
		collect(f.Imports().Get(i).FileDescriptor, seen, into)
	}
	*into = append(*into, protodesc.ToFileDescriptorProto(f))
}

func write(r *pluginpb.CodeGeneratorResponse) error {
	if r.Error != nil {
		return fmt.Errorf("%s", r.GetError())
	}
	for _, f := range r.File {
		if err := os.WriteFile(f.GetName(), []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
