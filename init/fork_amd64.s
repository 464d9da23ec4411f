// This file is empty. It lets fork_linux.go declare functions whose bodies are
// in the runtime.
