// Package archtest is the map of this module, kept true by a test.
//
// Start at the table in archtest_test.go: it names every package in the order
// in which to learn the code, says what it is for, and lists the packages of
// this module that it may import. No row imports a later one, so whoever
// reads from the top never meets a package they have not seen.
//
// The test reads the source files itself. It promises that
//
//   - every package is in the table and imports only what its row allows;
//     test files may also use the packages under weights and the kernels;
//   - packages that exist for tests are imported by test files only;
//   - unsafe stays in the packages named for it;
//   - only the command line reads flags and the environment, uses the
//     standard streams and ends the process;
//   - there is no func init, and no package called util, common or helpers;
//   - no file is longer than 700 lines, unless a program wrote it.
//
// Left out are folders called testdata, folders that begin with a dot or an
// underscore, other modules, and programs with the build constraint ignore.
package archtest
