package main

import (
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// streamingHealth is the health service with its unary methods as streams of one message each way:
// on the wire that is the same, and the interceptor is asked before the request is received.
var streamingHealth = grpc.ServiceDesc{
	ServiceName: healthpb.Health_ServiceDesc.ServiceName,
	HandlerType: (*healthpb.HealthServer)(nil),
	Streams: append([]grpc.StreamDesc{
		{StreamName: "Check", Handler: func(service any, s grpc.ServerStream) error {
			request := new(healthpb.HealthCheckRequest)
			if err := s.RecvMsg(request); err != nil {
				return err
			}
			response, err := service.(healthpb.HealthServer).Check(s.Context(), request)
			if err != nil {
				return err
			}
			return s.SendMsg(response)
		}},
		{StreamName: "List", Handler: func(service any, s grpc.ServerStream) error {
			request := new(healthpb.HealthListRequest)
			if err := s.RecvMsg(request); err != nil {
				return err
			}
			response, err := service.(healthpb.HealthServer).List(s.Context(), request)
			if err != nil {
				return err
			}
			return s.SendMsg(response)
		}},
	}, healthpb.Health_ServiceDesc.Streams...),
}
