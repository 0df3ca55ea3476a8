// Command expo extrapolates model checkpoints beyond preference training, and
// measures, runs and publishes the result. See expo --help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"expo/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second ^C ends the process at once; what it leaves can be resumed.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
