# ruff: noqa: RUF001, E501, SIM905  (other scripts are meant, and wide to ruff; words stand as they are read)
"""The words by which mail clients introduce what they quote, and the lines they sign with, by language.

English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Russian, Japanese, Chinese and Korean in full; of some neighbours the verb alone. All is compared in casefolded form.
"""

import re
from enum import Enum


class Label(Enum):
    """What a line of Outlook's header block tells."""

    FROM = "from"
    DATE = "date"
    TO = "to"
    CC = "cc"
    SUBJECT = "subject"


_LABELS = {
    Label.FROM: "from|von|de|da|van|od|от|от кого|отправитель|差出人|送信者|发件人|寄件者|寄件人|發件人|보낸 사람|보낸사람|발신|från|fra",
    Label.DATE: (
        "sent|date|gesendet|gesendet am|datum|envoyé|envoyé le|date d'envoi|enviado|enviado el|enviado em|enviada|enviada em"
        "|fecha|inviato|data|verzonden|wysłane|wysłano|отправлено|дата|送信日時|送信日|日時|日付|发送时间|发送日期|日期|时间|時間"
        "|寄件日期|傳送時間|傳送日期|보낸 날짜|보낸날짜|보낸 시간|날짜|일시|skickat|sendt"
    ),
    Label.TO: (
        "to|an|à|a|para|aan|do|кому|宛先|收件人|收件者|받는 사람|받는사람|수신|destinataire|destinatario|destinatário|empfänger|till|til"
    ),
    Label.CC: "cc|kopie|kopie an|copie|copie à|dw|do wiadomości|копия|抄送|副本|참조|bcc|ccn|cco|reply-to|antwort an|répondre à",
    Label.SUBJECT: "subject|betreff|objet|asunto|oggetto|assunto|onderwerp|temat|тема|件名|主题|主題|主旨|제목|ämne|emne|sujet",
}
LABELS = {word: label for label, words in _LABELS.items() for word in words.split("|")}

ORIGINAL = frozenset(
    "original message|original email|reply message|replied message|original mail|ursprüngliche nachricht|originalnachricht"
    "|original-nachricht|originalmail|originale nachricht|urspr. nachricht|message d'origine|message original|message initial"
    "|courriel original|e-mail d'origine|mail original|mensaje original|correo original|messaggio originale|messaggio iniziale"
    "|mensagem original|mensagem de origem|oorspronkelijk bericht|origineel bericht|oorspronkelijke bericht"
    "|wiadomość oryginalna|oryginalna wiadomość|treść oryginalnej wiadomości|wiadomość pierwotna|исходное сообщение"
    "|оригинальное сообщение|元のメッセージ|元のメール|オリジナルメッセージ|原始邮件|回复的原邮件|原邮件|原始郵件|原始訊息|原郵件|回覆的原郵件"
    "|원본 메시지|원본 메일|원본메시지|원본메일|원래 메시지|ursprungligt meddelande|oprindelig meddelelse".split("|")
)
FORWARDED = frozenset(
    "forwarded message|forwarded email|forwarded mail|begin forwarded message|start of forwarded message|weitergeleitete nachricht"
    "|weitergeleitete mail|anfang der weitergeleiteten nachricht|anfang der weitergeleiteten e-mail|message transféré"
    "|message transmis|message réexpédié|courriel transféré|début du message transféré|début du message réexpédié"
    "|début de l'e-mail transféré|mensaje reenviado|inicio del mensaje reenviado|messaggio inoltrato|inizio messaggio inoltrato"
    "|messaggio inoltrato da|mensagem encaminhada|mensagem reencaminhada|início da mensagem encaminhada"
    "|início da mensagem reencaminhada|doorgestuurd bericht|begin doorgestuurd bericht|begin van doorgestuurd bericht"
    "|wiadomość przekazana|przekazana wiadomość|wiadomość przesłana dalej|początek przekazywanej wiadomości"
    "|początek przekazanej wiadomości|пересылаемое сообщение|пересланное сообщение|перенаправленное сообщение"
    "|начало переадресованного сообщения|начало пересылаемого сообщения|転送されたメッセージ|転送メッセージ|転送メール"
    "|転送されたメール|下に転送されたメッセージがあります|转发的邮件|转发邮件|轉寄郵件|轉寄的郵件|轉寄訊息|已轉寄郵件|被转发邮件|下面是被转发的邮件"
    "|以下是轉寄的郵件|開始轉寄郵件|전달된 메시지|전달된 메일|전달된 이메일|전달한 메시지".split("|")
)

_VERBS = (
    r"wrote|writes|schrieb|geschrieben|a écrit|écrit|a ecrit|escribió|escribio|ha scritto|scrive|escreveu|schreef"
    r"|geschreven|napisała?(?:\(a\))?|napisana przez|pisze|пишет|написала?(?:\(а\))?|писала?(?:\(а\))?|skrev|kirjoitti|napsala?"
    r"|írta|a scris|şunları yazdı|yazdı|написав|пише|έγραψε"
)
_ENDINGS = "写道|寫道|書きました|のメール|님이 작성|작성|썼습니다"
_FIRSTS = "".join(sorted({verb[0] for verb in f"{_VERBS}|{_ENDINGS}".split("|")}))
VERB = re.compile(rf"(?=[{_FIRSTS}])(?:(?<!\w)(?:{_VERBS})(?!\w)|{_ENDINGS})")
"""What begins with none of the letters need not be compared with each of the verbs: that takes twice as long."""
YOU = frozenset("you|du|vous|tu|sie|ihr|vos|usted|u|lei|você|вы|ты".split("|"))

CALENDAR = frozenset(
    # what stands between the words of a date: prepositions, 'day', 'hour', 'has' and 'the following'
    "on at am um uhr le à el a las la los lo il giorno alle ore em no dia de às as s do del op om uur heeft het volgende w "
    "dniu dnia o godz g г в во от 在 于 於 kl klo hat folgende pm p.m a.m p m år utc gmt cet cest est edt pst pdt jst kst msk "
    "bst ha há st nd rd th på dne uživatel".split()
)
_DAYS = (
    "mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec "
    "mo die mit don fre sam son mär mai okt dez jän "
    "lun mer jeu ven dim jan fév fev avr jui aoû aou déc "
    "mié mie jue vie sáb sab dom ene abr ago dic set "
    "gio mag giu lug ott "
    "seg ter qua qui sex out dez "
    "maa din woe don vri zat zon maa mei "
    "pon wto śro czw pią sob nie sty lut kwi maj cze lip sie wrz paź lis gru "
    "пон вто сре чет пят суб вос янв фев мар апр мая май июн июл авг сен окт ноя дек"
)
DAY_STEMS = frozenset(_DAYS.split())
"""The first three letters of weekdays and months."""
DAY_SHORT = frozenset("mo di do fr sa so ma wo vr za zo wt śr cz pt so nd пн вт ср чт пт сб вс".split())
PARTICLES = frozenset(
    "von van der den de del della di da do dos das du la le y e zu zum ten ter bin al el und and via".split()
)
"""Lower-case words that stand inside a name, never at its head."""

# A phone's or app's signature is made of these words alone: how it was sent, from what, and little words between them.
SENT = frozenset(
    "sent composed written gesendet versendet verschickt geschrieben geschickt envoyé écrit provenance enviado enviada escrito inviato "
    "inviata scritto verstuurd verzonden wysłane wysłano wysłana отправлено отправлен написано "
    "get download beziehen holen herunterladen obtenir obtenez télécharger téléchargez obtener descargar obtén obter obtenha "
    "baixar transferir ottieni scarica downloaden ontvang pobierz uzyskaj получить скачать загрузить".split()
)
DEVICE = re.compile(
    r"i-?(?:phone|pad|pod)(?:['’ao]{1,2})?|android|android-gerät|samsung|galaxy|huawei|honor|xiaomi|redmi|oppo|oneplus|pixel|nokia"
    r"|lumia|htc|sony|xperia|motorola|blackberry|handy|smartphone\w?|mobiltelefon|mobilgerät|móvil|celular|telefon\w?|telefoon"
    r"|téléphone|teléfono|telefono|telefone|phone|cellphone|tablet\w{0,2}|tablette|macbook|outlook|gmail|yahoo!?|gmx|web\.de|freenet"
    r"|mail\.ru|windows|proton\w*|spark|aquamail|k-9|thunderbird|fastmail|tuta\w*|airmail|t-online|aol|zoho|foxmail|ipad"
    r"|device|dispositivo|gerät|orange|libero|androida|yandex\S*|яндекс\S*|телефона?|смартфона?|планшета?"
)
LITTLE = frozenset(
    "from with via by using my the a an on for of secure mobile device app email e-mail mail messenger free new lte 4g 5g at&t verizon "
    "t-mobile vodafone wireless smartphone pro plus max mini ultra note lite air 10 11 ios mac os company "
    "von mit über aus mein meine meinem meiner dem der die dieser diese nachricht e-mail-nachricht wurde für unterwegs gerät per "
    "kostenlosen sicheren sichere sicherer auf "
    "de depuis à avec du par mon ma mes pour sur la le un messagerie sécurisée courrier appareil mobile partir l'application application "
    "desde con mi para en el dispositivo correo aplicación aplicativo electrónico seguro "
    "da dal dalla dall' mio mia su per il "
    "do meu minha pelo o no na email "
    "vanaf vanuit met mijn uit voor op een mobiele telefoon "
    "z ze mojego mojej dla aplikację aplikacji systemu urządzenia telefonu poczty na "
    "с со из моего моей мобильной мобильного для устройства почты приложения".split()
)
MOBILE_CJK = re.compile(
    r"(?:.{0,20}(?:iphone|ipad|android|スマートフォン|携帯|samsung|galaxy|outlook|yahoo!?メール|gmail)[^。]{0,20}(?:から|より)送信(?:されました)?。?"
    r"|(?:outlook for (?:ios|android)|(?:ios|android)\s?版\s?outlook) ?(?:を(?:入手|取得)|下载|下載)"
    r"|(?:发自|發自|来自|來自|从|從|由|通过|透過|获取|下载|下載|取得).{0,12}(?:iphone|ipad|android|outlook|手机|手機|华为|小米|邮箱|samsung|galaxy)"
    r"[^，。,!?！？]{0,20}"
    r"|(?:나의|내|저의)?\s?.{0,12}(?:iphone|ipad|android|outlook|갤럭시|galaxy|휴대폰|스마트폰|samsung)[^,.!?]{0,12}(?:에서|으로)"
    r" ?(?:보냄|보냈습니다|보낸 메일|보내드립니다|전송).{0,3}"
    r"|(?:ios|android)용 outlook ?(?:다운로드|받기)?)"
)
