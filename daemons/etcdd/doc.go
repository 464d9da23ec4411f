// Command etcdd keeps the database of Kubernetes.
package main
