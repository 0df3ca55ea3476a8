package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"expo/internal/kernel"
)

// Version is that of the program and stands in every record that it writes.
const Version = "0.1.0"

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the Go that built it, and the kernels that this machine runs",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			kernels := kernel.Implementations()
			if a.json {
				return a.printJSON(map[string]any{"version": Version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "kernels": kernels})
			}
			_, err := fmt.Fprintf(a.out, "expo %s (%s, %s/%s, kernels: %s)\n", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH, kernels[0])
			return err
		},
	}
}
