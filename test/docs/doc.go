// Package docs holds tests that follow the documentation as a reader does.
package docs
