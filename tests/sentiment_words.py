"""Words of positive and of negative feeling, to check texts that must hold none, or those of one side alone.

Only words that say by themselves how something is felt or judged: "bright", "cold" or "slow" depend on the subject.
"""

from __future__ import annotations

_POSITIVE = """
    admiration admire admired adorable adore adored affection affectionate amazed amazing awesome awestruck beautiful
    beautifully bliss blissful blissfully breathtaking brilliant captivated charmed charming cheer cheerful cheerfully
    cherish cherished comforted content contented contentment dazzled dazzling delicious delight delighted delightful
    delightfully divine ecstatic elated enchanted enchanting enjoy enjoyable enjoyed enraptured euphoric excellent
    exhilarated exhilarating exquisite fabulous fantastic fondly fondness glad gladdened gladly gladness gleeful
    glorious gorgeous grateful gratefully gratitude great happier happiest happily happiness happy heavenly impressed
    inspired inspiring jolly joy joyful joyfully joyous jubilant jubilation love loved loveliest lovely loves loving
    magical magnificent marvel marvellous masterpiece merriment merry moved moving outstanding overjoyed perfect
    perfection perfectly pleasant pleased pleasing pleasure praise praised pretty pride proud proudly radiant rapture
    rapturous rejoice rejoicing relief remarkable satisfied scrumptious smile smiled smiles smiling spellbound splendid
    stunning sublime superb sweetest tenderness terrific thankful thrilled thrilling touched treasure treasured treat
    triumph triumphant uplifting wonder wonderful wonderfully
"""

_NEGATIVE = """
    abominable abysmal agony anger angrily angry anguish annoyed annoying appalled appalling ashamed atrocious awful bad
    badly bitterly bitterness bleak bored boredom boring contempt crushed dejected depressed depressing desolate despair
    despise despised despondent detest detested devastated disappointed disappointing disappointment disaster disgrace
    disgraceful disgruntled disgust disgusted disgusting dislike disliked dismal dismay dismayed dissatisfied distress
    distressed dread dreadful dreadfully drearily dreary embarrassed embarrassing embarrassment enraged exasperated
    exasperating excruciating fiasco frumpy frustrated frustrating frustration fuming furious ghastly gloom gloomily
    gloomy grief grieving grim grumpy hate hated hateful hates hatred heartbreaking heartbroken hideous horrendous
    horrible horribly horrid horrified horror hostile humiliated humiliating hurt indignant infuriated infuriating
    insufferable irritated irritating irritation joyless livid loathe loathed loathing lonely lousy miserable miserably
    misery monstrous mortified mournful mourning nasty nauseating nightmare odious ordeal outrage outraged pathetic
    pitiful rage regret regretted repulsive resentful resentment revolting ridiculous rotten rubbish sad saddened
    saddest sadly sadness scandal scorn shame shameful shoddy sickening sorrow sorrowful sorry tearful tedious terrible
    terribly terrified terror torment torture tragic ugly unbearable unhappily unhappy unpleasant upset useless vile
    weep worst worthless wretched wretchedness
"""

POSITIVE = frozenset(_POSITIVE.split())
NEGATIVE = frozenset(_NEGATIVE.split())
