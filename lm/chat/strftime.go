package chat

import (
	"fmt"
	"strings"
	"time"
)

// strftime formats a time as strftime of C does in the C locale, with glibc's
// flags - (no padding), _ (spaces), 0 and ^ (upper case). A directive that is
// none stays as it is.
func strftime(t time.Time, format string) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		at := i + 1
		flag := byte(0)
		if at+1 < len(format) && strings.IndexByte("-_0^", format[at]) >= 0 {
			flag = format[at]
			at++
		}
		text, ok := directive(t, format[at], flag)
		if !ok {
			b.WriteString(format[i : at+1])
		} else if flag == '^' {
			b.WriteString(strings.ToUpper(text))
		} else {
			b.WriteString(text)
		}
		i = at
	}
	return b.String()
}

// directive is one directive of strftime.
func directive(t time.Time, c, flag byte) (string, bool) {
	padded := func(n, width int, with byte) string {
		switch flag {
		case '-':
			return fmt.Sprint(n)
		case '_', '0':
			with = map[byte]byte{'_': ' ', '0': '0'}[flag]
		}
		if with == ' ' {
			return fmt.Sprintf("%*d", width, n)
		}
		return fmt.Sprintf("%0*d", width, n)
	}
	hour12 := (t.Hour()+11)%12 + 1
	year, week := t.ISOWeek()
	weekday := int(t.Weekday())
	switch c {
	case 'a':
		return t.Format("Mon"), true
	case 'A':
		return t.Format("Monday"), true
	case 'b', 'h':
		return t.Format("Jan"), true
	case 'B':
		return t.Format("January"), true
	case 'c':
		return t.Format("Mon Jan _2 15:04:05 2006"), true
	case 'C':
		return padded(t.Year()/100, 2, '0'), true
	case 'd':
		return padded(t.Day(), 2, '0'), true
	case 'D', 'x':
		return t.Format("01/02/06"), true
	case 'e':
		return padded(t.Day(), 2, ' '), true
	case 'f':
		return fmt.Sprintf("%06d", t.Nanosecond()/1000), true
	case 'F':
		return t.Format("2006-01-02"), true
	case 'g':
		return padded(year%100, 2, '0'), true
	case 'G':
		return padded(year, 4, '0'), true
	case 'H':
		return padded(t.Hour(), 2, '0'), true
	case 'I':
		return padded(hour12, 2, '0'), true
	case 'j':
		return padded(t.YearDay(), 3, '0'), true
	case 'k':
		return padded(t.Hour(), 2, ' '), true
	case 'l':
		return padded(hour12, 2, ' '), true
	case 'm':
		return padded(int(t.Month()), 2, '0'), true
	case 'M':
		return padded(t.Minute(), 2, '0'), true
	case 'n':
		return "\n", true
	case 'p':
		return t.Format("PM"), true
	case 'P':
		return t.Format("pm"), true
	case 'r':
		return t.Format("03:04:05 PM"), true
	case 'R':
		return t.Format("15:04"), true
	case 's':
		return fmt.Sprint(t.Unix()), true
	case 'S':
		return padded(t.Second(), 2, '0'), true
	case 't':
		return "\t", true
	case 'T', 'X':
		return t.Format("15:04:05"), true
	case 'u':
		return fmt.Sprint((weekday+6)%7 + 1), true
	case 'U':
		return padded((t.YearDay()+6-weekday)/7, 2, '0'), true
	case 'V':
		return padded(week, 2, '0'), true
	case 'w':
		return fmt.Sprint(weekday), true
	case 'W':
		return padded((t.YearDay()+6-(weekday+6)%7)/7, 2, '0'), true
	case 'y':
		return padded(t.Year()%100, 2, '0'), true
	case 'Y':
		return padded(t.Year(), 1, '0'), true
	case 'z', 'Z':
		// A time of datetime.now() knows no zone.
		return "", true
	case '%':
		return "%", true
	}
	return "", false
}
