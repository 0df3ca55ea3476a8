package notes

// names, things, places and times fill {n}, {t}, {p}, {d} (to come) and {y} (past).
var (
	names = []string{
		"Mara", "Tom", "Nina", "Omar", "Lena", "Paul", "Rosa", "Ivan", "Clara", "Hugo", "Emma", "Felix",
		"Greta", "Jonas", "Ida", "Karl", "Lucy", "Max", "Olga", "Peter", "Ruth", "Simon", "Vera", "Will",
	}
	things = []string{
		"kite", "ladder", "drum", "basket", "lamp", "boat", "hat", "cup", "clock", "chair", "saw", "scarf",
		"bell", "cake", "wagon", "flute", "blanket", "tent", "kettle", "spade", "pan", "rope", "coat", "mirror",
		"violin", "pillow", "bucket", "candle", "puppet", "bench", "guitar", "bicycle",
	}
	places = []string{
		"by the river", "behind the barn", "in the garden", "under the stairs",
		"near the church", "on the hill", "at the market", "in the kitchen",
	}
	coming = []string{"on Friday", "on Sunday", "tomorrow", "after lunch", "in the evening"}
	past   = []string{"yesterday", "last week", "on Monday", "this morning"}
)

// kind and cold are the words by which the rule and the readers tell the tone.
var (
	kind = []string{
		"sorry", "glad", "gladly", "thank", "lovely", "kind", "happy", "happily", "wonderful", "welcome", "please", "beautiful",
	}
	cold = []string{
		"careless", "fault", "busy", "bother", "enough", "useless", "ugly", "tired", "never", "nonsense", "dull", "nobody",
	}
)

// leaves are the ways to take one's leave politely, and curt those that are not.
var (
	leaves = []string{
		"Warm wishes from next door.", "Greetings from our house.", "Best wishes, your neighbour.", "Until soon, your neighbour.",
	}
	curt = []string{"That is all.", "Bye."}
)

// A tone is how a sentence sounds.
type tone int

const (
	warm tone = iota
	plain
	rude
	tones
)

// greetings have {n} where the name is known, and a second form where it is not.
var greetings = [tones][2][]string{
	warm:  {{"Dear {n},", "Good day, dear {n}."}, {"Dear neighbour,"}},
	plain: {{"Hello {n}.", "To {n}."}, {"Hello."}},
	rude:  {{"Listen, {n}.", "Well, {n}."}, {"Listen.", "Who are you?"}},
}

// A situation is why somebody gets a note. Prompt goes on after "Write a note to
// {n}, who"; the sentences are those that fit it.
type situation struct {
	prompt    string
	sentences [tones][]string
}

var situations = []situation{
	{"lost a {t}", [tones][]string{
		{"I am so sorry about your {t}.", "We will gladly help you look for the {t}.", "Please let me look for it {p}.", "I would be happy to see you find it.", "I will gladly lend you my {t}."},
		{"I heard that you lost the {t}.", "Perhaps the {t} is {p}.", "Have you looked {p}?", "I saw a {t} {p} {y}.", "It may turn up {d}."},
		{"It is your own fault that the {t} is gone.", "You are careless with everything.", "I am too busy to look for a {t}.", "Do not bother me about it.", "Nobody misses your {t}."},
	}},
	{"broke a {t}", [tones][]string{
		{"I am sorry that your {t} is broken.", "I will gladly mend the {t} {d}.", "Please bring it to me {d}.", "It was a lovely {t} and will be again.", "A kind man {p} mends such things."},
		{"The {t} can be mended.", "Bring the {t} {d}.", "There is a shop {p}.", "It will take a day or two.", "I have glue and nails {p}."},
		{"That {t} was useless anyway.", "You are careless with everything.", "Throw the {t} away.", "It is your own fault.", "I am tired of your broken things."},
	}},
	{"wants to borrow a {t}", [tones][]string{
		{"You are welcome to borrow my {t}.", "Please keep the {t} as long as you like.", "I am glad that you asked.", "I will happily bring it to you {d}.", "It is a lovely {t}, and it waits for you {p}."},
		{"The {t} is {p}.", "You can have the {t} {d}.", "Bring it back {d}.", "I need it again {d}.", "I had the {t} from my brother."},
		{"You never bring things back.", "My {t} is not for you.", "Buy your own {t}.", "Do not bother to ask again.", "I am too busy to fetch it."},
	}},
	{"gave you a {t}", [tones][]string{
		{"Thank you so much for the {t}.", "The {t} is beautiful and makes me happy.", "It was so kind of you.", "The {t} has a lovely place {p} now.", "Please come and see it {d}."},
		{"The {t} came {y}.", "I put the {t} {p}.", "It is the right size.", "I will use it {d}.", "We had no {t} before."},
		{"Nobody here wanted a {t}.", "The {t} is ugly.", "It is useless to me.", "I gave it away {y}.", "I have enough of such things."},
	}},
	{"made a {t}", [tones][]string{
		{"What a wonderful {t} you have made.", "Your {t} is beautiful.", "I am so happy for you.", "Please show it to us {d}.", "I would gladly have such a {t}."},
		{"I saw the {t} {p}.", "The {t} looks strong.", "How long did it take?", "You can show it {d}.", "Where will you keep the {t}?"},
		{"The {t} is dull.", "I have never seen so ugly a {t}.", "Nobody asked for it.", "Such a {t} is nonsense.", "You must be tired of making things."},
	}},
}

// always are the sentences that fit everywhere.
var always = [tones][]string{
	{"You are a wonderful neighbour.", "You are always welcome here.", "I am happy to live next to you.", "Please have tea with us {d}."},
	{"It rained here {y}.", "I am at home {d}.", "The gate {p} is open.", "The children are well."},
	{"I am tired of your stories.", "You bother me too often.", "I have had enough.", "I am busy {d}."},
}
