module github.com/dactyl-os/dactyl

go 1.26.8
