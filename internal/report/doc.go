// Package report draws what was measured: tables as text, Markdown, LaTeX,
// JSON and HTML; plots as SVG, PNG and characters for a terminal; and pages of
// them.
//
// Start at [Table], [Chart], [Bars] and [Radar]; [Page] puts them on one HTML
// page that needs nothing else: no script, no font, no image from elsewhere,
// light or dark as the reader's system is, readable on a telephone.
//
// A plot becomes a [Figure], a list of strokes and texts with roles for
// colours, before it becomes anything else; SVG on a page takes its colours
// from the page, SVG and PNG files have their own. (Plotting libraries fix
// colours when they draw, so that a dark page would need a second copy.)
//
// What is shown may come from a model: all text is escaped, and texts for a
// terminal lose what would steer it.
package report
