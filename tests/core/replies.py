# ruff: noqa: RUF001, E501  (the letters of other scripts are meant, and some of them are wide to ruff)
"""Labelled replies: what people wrote, and around it what their clients add, by language and client.

Everything here was written for these tests. A reply says what is new in it; the false friends say that all of them is.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A body, and the text in it that is new."""

    name: str
    body: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A few words of one language as its clients say them. An attribution may be folded; a header block has a line each."""

    code: str
    answer: str
    quoted: str
    attributions: dict[str, str]
    header: str
    original: str
    forwarded: str
    mobile: tuple[str, ...]


LANGUAGES = (
    Language(
        code="en",
        answer="Hello Ann,\n\nyes, Tuesday suits us. Please bring the keys.\n\nBest wishes\nBob",
        quoted="Dear Bob,\nshall we meet on Tuesday?\n\nYours, Ann",
        attributions={
            "gmail": "On Mon, May 3, 2021 at 3:14 PM Ann Archer <ann.archer@long-company-name.test>\nwrote:",
            "gmail-narrow-space": "On Mon, May 3, 2021 at 3:14\u202fPM Ann Archer <ann@a.test> wrote:",
            "apple": "On 3 May 2021, at 15:14, Ann Archer <ann@a.test> wrote:",
            "iphone": "On May 3, 2021, at 3:14 PM, Ann Archer <ann@a.test> wrote:\n\n\ufeff",
            "thunderbird": "On 5/3/21 3:14 PM, Ann Archer wrote:",
            "yahoo": "On Monday, May 3, 2021, 03:14:15 PM EDT, Ann Archer <ann@a.test> wrote:",
            "proton": "On Monday, May 3rd, 2021 at 3:14 PM, Ann Archer <ann@a.test> wrote:",
        },
        header="From: Ann Archer <ann@a.test>\nSent: Monday, May 3, 2021 3:14 PM\nTo: Bob <bob@b.test>\nSubject: Tuesday",
        original="-----Original Message-----",
        forwarded="---------- Forwarded message ---------",
        mobile=(
            "Sent from my iPhone",
            "Get Outlook for iOS<https://aka.ms/xyz>",
            "Sent from my Samsung Galaxy smartphone.",
            "Sent from Yahoo Mail on Android",
            "Sent with Proton Mail secure email.",
            "Sent from Mail for Windows",
        ),
    ),
    Language(
        code="de",
        answer="Hallo Anna,\n\nja, Dienstag passt. Bitte die Schlüssel mitbringen.\n\nViele Grüße\nBernd",
        quoted="Lieber Bernd,\nwollen wir uns am Dienstag treffen?\n\nAnna",
        attributions={
            "gmail": "Am Mo., 3. Mai 2021 um 15:14 Uhr schrieb Anna Sommer <\nanna.sommer@sehr-langer-name.test>:",
            "gmail-app": "Anna Sommer <anna@a.test> schrieb am Mo., 3. Mai 2021, 15:14:",
            "apple": "Am 03.05.2021 um 15:14 schrieb Anna Sommer <anna@a.test>:",
            "thunderbird": "Am 03.05.21 um 15:14 schrieb Anna Sommer:",
            "yahoo": "Am Montag, 3. Mai 2021, 15:14:15 MESZ hat Anna Sommer <anna@a.test> Folgendes geschrieben:",
            "proton": "Anna Sommer <anna@a.test> schrieb am Montag, 3. Mai 2021 um 15:14:",
        },
        header="Von: Anna Sommer <anna@a.test>\nGesendet: Montag, 3. Mai 2021 15:14\nAn: Bernd <b@b.test>\nBetreff: Dienstag",
        original="-----Ursprüngliche Nachricht-----",
        forwarded="-------- Weitergeleitete Nachricht --------",
        mobile=(
            "Von meinem iPhone gesendet",
            "Outlook für Android beziehen",
            "Gesendet mit der GMX Mail App",
            "Diese Nachricht wurde von meinem Android-Gerät mit WEB.DE Mail gesendet.",
            "Von meinem Samsung Galaxy Smartphone gesendet.",
        ),
    ),
    Language(
        code="fr",
        answer="Bonjour Anne,\n\noui, mardi nous convient. Merci d'apporter les clés.\n\nCordialement\nBenoît",
        quoted="Cher Benoît,\non se voit mardi ?\n\nAnne",
        attributions={
            "gmail": "Le lun. 3 mai 2021 à 15:14, Anne Été <anne.ete@une-longue-societe.test> a\nécrit :",
            "apple": "Le 3 mai 2021 à 15:14, Anne Été <anne@a.test> a écrit :",
            "thunderbird": "Le 03/05/2021 à 15:14, Anne Été a écrit\u00a0:",
            "yahoo": "Le lundi 3 mai 2021 à 15:14:15 UTC+2, Anne Été <anne@a.test> a écrit :",
            "proton": "Le lundi 3 mai 2021 à 15:14, Anne Été <anne@a.test> a écrit :",
        },
        header="De : Anne Été <anne@a.test>\nEnvoyé : lundi 3 mai 2021 15:14\nÀ : Benoît <b@b.test>\nObjet : mardi",
        original="-----Message d'origine-----",
        forwarded="-------- Message transféré --------",
        mobile=(
            "Envoyé de mon iPhone",
            "Télécharger Outlook pour Android",
            "Envoyé depuis mon smartphone Samsung Galaxy.",
            "Envoyé avec la messagerie sécurisée Proton Mail.",
        ),
    ),
    Language(
        code="es",
        answer="Hola Ana:\n\nsí, el martes nos va bien. Trae las llaves, por favor.\n\nUn saludo\nBlas",
        quoted="Hola Blas:\n¿nos vemos el martes?\n\nAna",
        attributions={
            "gmail": "El lun, 3 may 2021 a las 15:14, Ana Ríos (<ana.rios@una-empresa-larga.test>)\nescribió:",
            "apple": "El 3 may 2021, a las 15:14, Ana Ríos <ana@a.test> escribió:",
            "thunderbird": "El 3/5/21 a las 15:14, Ana Ríos escribió:",
            "yahoo": "El lunes, 3 de mayo de 2021, 15:14:15 CEST, Ana Ríos <ana@a.test> escribió:",
            "gmail-pm": "El lun, 3 de may. de 2021 a la(s) 3:14 p. m., Ana Ríos (ana@a.test) escribió:",
        },
        header="De: Ana Ríos <ana@a.test>\nEnviado el: lunes, 3 de mayo de 2021 15:14\nPara: Blas <b@b.test>\nAsunto: martes",
        original="-----Mensaje original-----",
        forwarded="---------- Mensaje reenviado ----------",
        mobile=("Enviado desde mi iPhone", "Obtener Outlook para iOS", "Enviado desde mi teléfono Samsung Galaxy."),
    ),
    Language(
        code="it",
        answer="Ciao Anna,\n\nsì, martedì va bene. Porta le chiavi, per favore.\n\nUn saluto\nBruno",
        quoted="Caro Bruno,\nci vediamo martedì?\n\nAnna",
        attributions={
            "gmail": "Il giorno lun 3 mag 2021 alle ore 15:14 Anna Rosa <anna.rosa@una-ditta.test>\nha scritto:",
            "apple": "Il giorno 3 mag 2021, alle ore 15:14, Anna Rosa <anna@a.test> ha scritto:",
            "thunderbird": "Il 03/05/21 15:14, Anna Rosa ha scritto:",
            "yahoo": "Il lunedì 3 maggio 2021, 15:14:15 CEST, Anna Rosa <anna@a.test> ha scritto:",
            "iphone": "Il giorno 3 maggio 2021, alle ore 15:14, Anna Rosa\n<anna@a.test> ha scritto:",
        },
        header="Da: Anna Rosa <anna@a.test>\nInviato: lunedì 3 maggio 2021 15:14\nA: Bruno <b@b.test>\nOggetto: martedì",
        original="-----Messaggio originale-----",
        forwarded="-------- Messaggio inoltrato --------",
        mobile=("Inviato da iPhone", "Inviato dal mio Galaxy", "Ottieni Outlook per iOS"),
    ),
    Language(
        code="pt",
        answer="Olá Ana,\n\nsim, terça serve. Traga as chaves, por favor.\n\nAbraço\nBruno",
        quoted="Caro Bruno,\nvamos nos encontrar na terça?\n\nAna",
        attributions={
            "gmail-br": "Em seg., 3 de mai. de 2021 às 15:14, Ana Reis <ana.reis@uma-empresa.test>\nescreveu:",
            "gmail-pt": "Ana Reis <ana@a.test> escreveu no dia segunda, 3/05/2021 à(s) 15:14:",
            "apple": "Em 3 de mai. de 2021, à(s) 15:14, Ana Reis <ana@a.test> escreveu:",
            "thunderbird": "Em 03/05/2021 15:14, Ana Reis escreveu:",
            "yahoo": "Em segunda-feira, 3 de maio de 2021 15:14:15 BRT, Ana Reis <ana@a.test> escreveu:",
        },
        header="De: Ana Reis <ana@a.test>\nEnviada em: segunda-feira, 3 de maio de 2021 15:14\nPara: B <b@b.test>\nAssunto: terça",
        original="-----Mensagem original-----",
        forwarded="---------- Mensagem encaminhada ----------",
        mobile=("Enviado do meu iPhone", "Obter o Outlook para Android", "Enviado do meu smartphone Samsung Galaxy."),
    ),
    Language(
        code="nl",
        answer="Hoi Anna,\n\nja, dinsdag komt goed uit. Neem de sleutels mee.\n\nGroet\nBas",
        quoted="Beste Bas,\nzien we elkaar dinsdag?\n\nAnna",
        attributions={
            "gmail": "Op ma 3 mei 2021 om 15:14 schreef Anna de Vries <anna.de.vries@een-bedrijf.test\n>:",
            "apple": "Op 3 mei 2021, om 15:14 heeft Anna de Vries <anna@a.test> het volgende geschreven:",
            "iphone": "Op 3 mei 2021 om 15:14 heeft Anna de Vries <anna@a.test> het volgende\ngeschreven:",
            "thunderbird": "Op 03-05-2021 om 15:14 schreef Anna de Vries:",
            "yahoo": "Op maandag 3 mei 2021 om 15:14:15 CEST schreef Anna de Vries <anna@a.test>:",
        },
        header="Van: Anna de Vries <anna@a.test>\nVerzonden: maandag 3 mei 2021 15:14\nAan: Bas <b@b.test>\nOnderwerp: dinsdag",
        original="-----Oorspronkelijk bericht-----",
        forwarded="-------- Doorgestuurd bericht --------",
        mobile=("Verstuurd vanaf mijn iPhone", "Verzonden vanaf mijn Galaxy", "Outlook voor iOS downloaden"),
    ),
    Language(
        code="pl",
        answer="Cześć Anno,\n\ntak, wtorek pasuje. Weź proszę klucze.\n\nPozdrawiam\nBartek",
        quoted="Bartku,\nspotkamy się we wtorek?\n\nAnna",
        attributions={
            "gmail": "pon., 3 maj 2021 o 15:14 Anna Nowak <anna.nowak@bardzo-dluga-nazwa.test>\nnapisał(a):",
            "apple": "Wiadomość napisana przez Anna Nowak <anna@a.test> w dniu 3 maj 2021, o godz. 15:14:",
            "apple-folded": "Wiadomość napisana przez Anna Nowak <anna@a.test> w\ndniu 03.05.2021, o godz. 15:14:",
            "thunderbird": "W dniu 3.05.2021 o 15:14, Anna Nowak pisze:",
            "onet": "Dnia 3 maja 2021 15:14 Anna Nowak <anna@a.test> napisał(a):",
        },
        header="Od: Anna Nowak <anna@a.test>\nWysłane: poniedziałek, 3 maja 2021 15:14\nDo: Bartek <b@b.test>\nTemat: wtorek",
        original="-----Oryginalna wiadomość-----",
        forwarded="-------- Wiadomość przekazana --------",
        mobile=("Wysłane z iPhone'a", "Wysłane z mojego iPhone'a", "Pobierz aplikację Outlook dla systemu iOS"),
    ),
    Language(
        code="ru",
        answer="Здравствуйте, Анна!\n\nДа, вторник подходит. Возьмите ключи.\n\nБорис",
        quoted="Борис,\nвстретимся во вторник?\n\nАнна",
        attributions={
            "gmail": "пн, 3 мая 2021 г. в 15:14, Анна Белова <anna.belova@ochen-dlinnoe-imya.test>:",
            "yandex": '03.05.2021, 15:14, "Анна Белова" <anna@a.test>:',
            "thunderbird": "03.05.2021 15:14, Анна Белова пишет:",
            "apple": "3 мая 2021 г., в 15:14, Анна Белова <anna@a.test> написал(а):",
            "mail.ru": "Понедельник, 3 мая 2021, 15:14 +03:00 от Анна Белова <anna@a.test>:",
        },
        header="От: Анна Белова <anna@a.test>\nОтправлено: 3 мая 2021 г. 15:14\nКому: Борис <b@b.test>\nТема: вторник",
        original="-----Исходное сообщение-----",
        forwarded="-------- Пересылаемое сообщение --------",
        mobile=("Отправлено с iPhone", "Отправлено из мобильной Яндекс.Почты", "Получить Outlook для iOS"),
    ),
    Language(
        code="ja",
        answer="田中様\n\nはい、火曜日で大丈夫です。鍵をお持ちください。\n\n鈴木",
        quoted="鈴木様\n火曜日にお会いできますか。\n\n田中",
        attributions={
            "gmail": "2021年5月3日(月) 15:14 田中花子 <hanako@a.test>:",
            "apple": "2021/05/03 15:14、田中花子 <hanako@a.test>のメール:",
            "iphone": "2021/05/03 15:14、田中花子 <hanako@a.test>のメール：",
            "yahoo": "2021年5月3日月曜日 15:14:15 JST、田中花子<hanako@a.test>さんが書きました:",
            "thunderbird": "On 2021/05/03 15:14, 田中花子 wrote:",
        },
        header="差出人: 田中花子 <hanako@a.test>\n送信日時: 2021年5月3日 15:14\n宛先: 鈴木 <s@b.test>\n件名: 火曜日",
        original="-----元のメッセージ-----",
        forwarded="---------- 転送されたメッセージ ----------",
        mobile=("iPhoneから送信", "Outlook for iOS を入手", "Galaxyから送信"),
    ),
    Language(
        code="zh",
        answer="王女士：\n\n可以，星期二没问题。请带上钥匙。\n\n李明",
        quoted="李先生：\n星期二见面好吗？\n\n王芳",
        attributions={
            "gmail": "王芳 <wangfang@a.test> 于2021年5月3日周一 15:14写道：",
            "gmail-tw": "王芳 <wangfang@a.test> 於 2021年5月3日 週一 下午3:14寫道：",
            "apple": "在 2021年5月3日，15:14，王芳 <wangfang@a.test> 写道：",
            "iphone": "2021年5月3日 下午3:14，王芳 <wangfang@a.test> 写道：",
            "netease": '在 2021-05-03 15:14:15，"王芳" <wangfang@a.test> 写道：',
        },
        header="发件人: 王芳 <wangfang@a.test>\n发送时间: 2021年5月3日 15:14\n收件人: 李明 <l@b.test>\n主题: 星期二",
        original="------------------ 原始邮件 ------------------",
        forwarded="---------- 转发的邮件 ----------",
        mobile=("发自我的 iPhone", "從我的iPhone傳送", "获取 Outlook for iOS"),
    ),
    Language(
        code="ko",
        answer="안녕하세요 김 선생님,\n\n네, 화요일 좋습니다. 열쇠를 가져오세요.\n\n이민수",
        quoted="이 선생님,\n화요일에 만날까요?\n\n김영희",
        attributions={
            "gmail": "2021년 5월 3일 (월) 오후 3:14, 김영희 <kim@a.test>님이 작성:",
            "apple": "2021. 5. 3. 오후 3:14, 김영희 <kim@a.test> 작성:",
            "iphone": "2021. 5. 3. 15:14, 김영희 <kim@a.test> 작성:",
            "yahoo": "2021년 5월 3일 월요일 오후 03:14:15 GMT+9, 김영희<kim@a.test>님이 작성:",
            "thunderbird": "On 2021-05-03 오후 3:14, 김영희 wrote:",
        },
        header="보낸 사람: 김영희 <kim@a.test>\n보낸 날짜: 2021년 5월 3일 월요일 오후 3:14\n받는 사람: 이민수 <l@b.test>\n제목: 화요일",
        original="--------- 원본 메일 ---------",
        forwarded="---------- 전달된 메시지 ----------",
        mobile=("나의 iPhone에서 보냄", "iOS용 Outlook 다운로드", "내 갤럭시 스마트폰에서 보냄"),
    ),
)


def marked(text: str, mark: str = "> ") -> str:
    return "\n".join((mark + line).rstrip() for line in text.split("\n"))


def of_language(one: Language) -> list[Reply]:
    """Each client's reply, with and without marks, inline, with header block, rule, marker, forward and signatures."""
    rule, first, last = "_" * 32, one.answer.partition("\n")[0], one.answer.rpartition("\n")[2]
    head, _, tail = one.quoted.partition("\n")
    out = []
    for client, line in one.attributions.items():
        out += [
            (f"{client} top, marked", f"{one.answer}\n\n{line}\n\n{marked(one.quoted)}\n", one.answer),
            (f"{client} top, not marked", f"{one.answer}\n\n{line}\n\n{one.quoted}\n", one.answer),
            (f"{client} tight", f"{one.answer}\n{line}\n{marked(one.quoted, '>')}", one.answer),
            (f"{client} bottom", f"{line}\n{marked(one.quoted)}\n\n{one.answer}\n-- \n{last}\nB GmbH", one.answer),
            (
                f"{client} inline",
                f"{line}\n\n{marked(head)}\n\n{first}\n\n{marked(tail)}\n\n{last}",
                f"{first}\n\n{last}",
            ),
        ]
    bold = "\n".join(f"*{label}:*{value}" for label, _, value in (row.partition(":") for row in one.header.split("\n")))
    folded = one.header.replace("b.test>", "b.test>;\n Carl <carl@c.test>", 1)
    out += [
        ("outlook", f"{one.answer}\n\n{one.header}\n\n{one.quoted}", one.answer),
        ("outlook web", f"{one.answer}\n\n{rule}\n{one.header}\n\n{one.quoted}", one.answer),
        ("outlook marker", f"{one.answer}\n\n{one.original}\n{one.header}\n\n{one.quoted}", one.answer),
        ("outlook bold", f"{one.answer}\n\n{bold}\n\n{one.quoted}", one.answer),
        ("outlook folded", f"{one.answer}\n\n{rule}\n\n{folded}\n\n{one.quoted}", one.answer),
        ("samsung", f"{one.answer}\n\n{one.original}\n{one.header}\n\n{marked(one.quoted)}", one.answer),
        ("forward with a word", f"{one.answer}\n\n{one.forwarded}\n{one.header}\n\n{one.quoted}", one.answer),
        ("forward", f"{one.forwarded}\n{one.header}\n\n{one.quoted}", f"{one.forwarded}\n{one.header}\n\n{one.quoted}"),
    ]
    line = next(iter(one.attributions.values()))
    for mobile in one.mobile:
        out += [
            (f"mobile {mobile}", f"{one.answer}\n\n{mobile}\n\n{line}\n\n{marked(one.quoted)}", one.answer),
            (f"mobile alone {mobile}", f"{one.answer}\n\n{mobile}", one.answer),
            (f"mobile outlook {mobile}", f"{one.answer}\n\n{mobile}\n{rule}\n{one.header}\n\n{one.quoted}", one.answer),
        ]
    return [Reply(name=f"{one.code}: {name}", body=body, new=new) for name, body, new in out]


REPLIES = [reply for one in LANGUAGES for reply in of_language(one)]

_TEXT = "Hello,\n\n{}\n\nRegards\nBob"
_NAMED = {
    "a turn of phrase": "On the other hand he wrote:\nI shall not come. That surprised me.",
    "a report of speech with a date": 'On 3 May 2021 he wrote:\n"we cannot pay". We kept that letter.',
    "a report of speech with a time": "On 3 May 2021 at 15:14 the landlord wrote:\nno repairs this year.",
    "an I that wrote": "On 3 May 2021 at 15:14 I wrote:\nplease call me back. Nobody did.",
    "a date in the middle": "As you know, on 3 May 2021 at 15:14 Ann Archer wrote:\nplease pay now.",
    "wrote to whom": "Ann Archer wrote to us and asked for this:\n- keys\n- a contract",
    "an address before a list": "Write to Ann Archer <ann@a.test> and ask for:\n- keys\n- a contract",
    "an appointment": "The meeting on 3 May 2021 at 15:14 has this agenda:\n1. keys\n2. rent",
    "an appointment at the line's head": "3 May 2021, 15:14:\nwe arrive at the station.",
    "a German turn of phrase": "Am Ende schrieb er:\nich komme nicht. Das hat mich gewundert.",
    "a German report of speech": "Am 3. Mai 2021 um 15:14 Uhr schrieb der Vermieter:\nkeine Reparaturen.",
    "a French turn of phrase": "Le directeur a écrit :\nnous ne payons pas.\nVoilà.",
    "a Spanish turn of phrase": "El otro día mi jefe escribió:\nno vengo.\nQué raro.",
    "an Italian turn of phrase": "Il mio capo ha scritto:\nnon vengo.\nChe strano.",
    "a Portuguese turn of phrase": "Em resumo, ele escreveu:\nnão venho.\nEstranho.",
    "a Dutch turn of phrase": "Op een dag schreef hij:\nik kom niet.\nVreemd.",
    "a Polish turn of phrase": "W końcu napisał:\nnie przyjdę.\nDziwne.",
    "a Russian turn of phrase": "Вчера он написал:\nя не приду.\nСтранно.",
    "a Japanese turn of phrase": "彼はこう書きました:\n行きません。\n驚きました。",
    "a Chinese turn of phrase": "他在信里写道：\n我不来。\n真奇怪。",
    "a Korean turn of phrase": "어제 보고서를 작성:\n내일 보내겠습니다.",
    "From in prose": "From: that day on nobody came.\nSubject to change, of course.",
    "an itinerary": "From: London\nTo: Paris\nDate: 3 May 2024\nPlease book two seats.",
    "a German itinerary": "Von: Berlin Nach: Hamburg\nDatum: 3.5.2024\nBitte zwei Plätze.",
    "an itinerary by label": "Von: Berlin\nAn: Hamburg\nDatum: 3.5.2024\nBitte zwei Plätze.",
    "a memo": "To: all staff\nFrom: the office\nDate: 3 May 2024\nSubject: parking\nPlease park elsewhere.",
    "a form": "Subject: blue mug\nTo: my house\nThat is all I need.",
    "a path": "Open\n> Settings > Mail > Signature\nand switch it off.",
    "two paths": "Open one of\n\n> Settings > Mail\n> Tools > Options\n\nand switch it off.",
    "an arrow": "=> call me\n-> or write\n--> or come",
    "a comparison": ">50% of them agreed\n>30% did not answer",
    "a single comparison": "The share was\n\n>= 50 per cent\n\nlast year.",
    "a prompt": "Type this:\n>>> print(1)\n1\n>>> print(2)\n2",
    "steps behind a colon": "Do this:\n> open the door\n> close the window\nThen leave.",
    "a face": ">:( that was bad\n>_< and this too",
    "a rule": "First part.\n-----\nSecond part.\n_____________________\nThird part.",
    "a heading with a rule": "Prices\n======\nTwo pounds each.\n\nTerms\n-----\nCash.",
    "the marker in a sentence": "Please look for -----Original Message----- in the file.\nIt stands at the end.",
    "forwarded message in prose": "Forwarded message\nis what the button says. Press it.",
    "a phone in a sentence": "Sent from my iPhone? No, from my desk.\nI always write there.",
    "a phone in the middle": "It says\nSent from my iPhone\nbelow every mail of hers. Why?",
    "two dashes": "Either we go now\n--\nor we never go.",
    "dashes before a question": "We could go now.\n\n--\nOr should we wait?\nWhat do you say?",
    "a log": "12:00:01 From: relay To: host\n12:00:02 Subject: none\n12:00:03 Date: 2021",
    "a colon at the end": "Please send me the following by 3.5.2021 15:00:\nname, address, telephone",
}
FRIENDS = [Reply(name=name, body=_TEXT.format(text), new=_TEXT.format(text)) for name, text in _NAMED.items()]
"""Texts that look like a quotation or a signature and are none."""
FRIENDS += [Reply(name=f"{name}, bare", body=text, new=text) for name, text in _NAMED.items()]
