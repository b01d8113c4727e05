"""The words the corpus is made of: six languages with their charsets, and how mail clients cite in them. Data only."""

# ruff: noqa: RUF001  (Cyrillic letters that look like Latin ones are meant)

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One language: `charsets` that can hold all its words, `wrote` with {date} and {name} as clients phrase it.

    A `paragraph` has so many words: few where a word is many bytes on the wire.
    """

    code: str
    charsets: tuple[str, ...]
    words: tuple[str, ...]
    joiner: str
    paragraph: tuple[int, int]
    hello: str
    bye: str
    wrote: str
    subjects: tuple[str, ...]
    reply: str
    files: tuple[str, ...]
    people: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ENGLISH = Language(
    code="en",
    charsets=("utf-8", "utf-8", "us-ascii", "iso-8859-1"),
    words=_words(
        "the order we sent last week has not arrived and our customer asks when it will be delivered please check "
        "with your warehouse whether part of it can ship today I attached a copy of invoice for reference thanks "
        "also update address in account because office moved to new building on Monday could you confirm by email "
        "this is urgent as project starts soon otherwise let me know if anything else is needed from my side"
    ),
    joiner=" ",
    paragraph=(14, 48),
    hello="Hi {name},",
    bye="Best regards,",
    wrote="On {date}, {name} wrote:",
    subjects=("Order delayed", "Invoice for May", "Question about my account", "Meeting next week", "Refund request"),
    reply="Re: ",
    files=("invoice.pdf", "Screenshot 2026-01-12.png", "contract final (2).docx", "IMG_2041.jpeg", "report.xlsx"),
    people=("Alice Carter", "Bob Nguyen", "Priya Shah", "Tom O'Neill", "Grace Kim"),
)
GERMAN = Language(
    code="de",
    charsets=("utf-8", "iso-8859-1", "windows-1252"),
    words=_words(
        "die Bestellung ist leider noch nicht angekommen könnten Sie bitte prüfen wann wir mit der Lieferung rechnen "
        "dürfen im Anhang finden Sie die Rechnung für März über den vereinbarten Betrag außerdem hätten wir gerne eine "
        "Bestätigung der geänderten Anschrift für das Büro in Köln vielen Dank für Ihre schnelle Rückmeldung"
    ),
    joiner=" ",
    paragraph=(14, 48),
    hello="Guten Tag {name},",
    bye="Mit freundlichen Grüßen",
    wrote="Am {date} schrieb {name}:",
    subjects=("Lieferverzögerung", "Rechnung für März", "Rückfrage zur Bestellung", "Terminänderung"),
    reply="AW: ",
    files=("Rechnung März.pdf", "Übersicht.xlsx", "Angebot_2026.docx", "Foto.jpg"),
    people=("Jürgen Müller", "Sabine Schäfer", "Karl-Heinz Weiß", "Anna Lang"),
)
FRENCH = Language(
    code="fr",
    charsets=("utf-8", "windows-1252", "iso-8859-15"),
    words=_words(
        "la commande passée la semaine dernière n'est pas encore arrivée pourriez-vous vérifier où elle se trouve "
        "vous trouverez ci-joint la facture à régler avant la fin du mois nous avons déménagé et l'adresse a changé "
        "merci de bien vouloir confirmer la réception de ce message dès que possible très cordialement"
    ),
    joiner=" ",
    paragraph=(14, 48),
    hello="Bonjour {name},",
    bye="Cordialement,",
    wrote="Le {date}, {name} a écrit :",
    subjects=("Commande non reçue", "Facture à régler", "Réunion décalée", "Problème de connexion"),
    reply="RE: ",
    files=("facture_février.pdf", "relevé.xlsx", "contrat signé.pdf", "photo.jpg"),
    people=("Hélène Dupré", "François Lefèvre", "Zoé Martin", "Noël Girard"),
)
SPANISH = Language(
    code="es",
    charsets=("utf-8", "iso-8859-1", "windows-1252"),
    words=_words(
        "el pedido de la semana pasada todavía no ha llegado podrían revisar cuándo será la entrega adjunto la factura "
        "número doce para su información además necesitamos cambiar la dirección de envío porque la oficina se mudó "
        "muchas gracias por su atención quedamos a la espera de una pronta respuesta también mañana"
    ),
    joiner=" ",
    paragraph=(14, 48),
    hello="Hola {name}:",
    bye="Un saludo,",
    wrote="El {date}, {name} escribió:",
    subjects=("Pedido sin entregar", "Factura de marzo", "Reunión de mañana", "Petición de devolución"),
    reply="RV: ",
    files=("factura_año.pdf", "informe.xlsx", "presentación.pptx", "foto.jpg"),
    people=("José Núñez", "María Peña", "Íñigo Gómez", "Lucía Ibáñez"),
)
JAPANESE = Language(
    code="ja",
    charsets=("utf-8", "iso-2022-jp", "shift_jis"),
    words=_words(
        "お世話になっております 先日の注文 まだ届いておりません 確認をお願いいたします 請求書を添付します "
        "ご連絡ください 住所が変わりました 来週の会議 資料をお送りします "
        "よろしくお願いいたします 納期について ありがとうございます"
    ),
    joiner="、",
    paragraph=(3, 8),
    hello="{name}様",
    bye="よろしくお願いいたします。",
    wrote="{date}、{name}のメール:",
    subjects=("ご注文の件", "請求書の送付", "来週の会議について", "お問い合わせ"),
    reply="Re: ",
    files=("請求書.pdf", "会議資料.xlsx", "写真.jpg", "見積書2026.docx"),
    people=("山田太郎", "佐藤花子", "鈴木一郎"),
)
RUSSIAN = Language(
    code="ru",
    charsets=("utf-8", "koi8-r", "windows-1251"),
    words=_words(
        "заказ отправленный на прошлой неделе ещё не пришёл пожалуйста проверьте когда будет доставка счёт во вложении "
        "мы переехали в новый офис поэтому адрес изменился подтвердите получение письма спасибо за быстрый ответ "
        "также просим прислать договор и акт сверки до конца месяца"
    ),
    joiner=" ",
    paragraph=(5, 16),
    hello="Здравствуйте, {name}!",
    bye="С уважением,",
    wrote="{date}, {name} пишет:",
    subjects=("Заказ не доставлен", "Счёт за март", "Вопрос по договору", "Встреча"),
    reply="Re: ",
    files=("счёт.pdf", "договор.docx", "отчёт.xlsx", "фото.jpg"),
    people=("Иван Петров", "Ольга Смирнова", "Сергей Кузнецов"),
)
LANGUAGES = (ENGLISH, ENGLISH, ENGLISH, GERMAN, FRENCH, SPANISH, JAPANESE, RUSSIAN)
"""English three times: that is its share."""
