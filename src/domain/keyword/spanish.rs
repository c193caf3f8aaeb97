//! Requests to stop, in Spanish, without accents as the clauses are.

use super::pattern::Language;

pub(super) const LANGUAGE: Language = Language {
    same: &[
        ("msj", "mensaje"),
        ("msjs", "mensajes"),
        ("sms", "mensajes"),
        ("xfa", "favor"),
        ("porfavor", "por favor"),
        ("porfa", "por favor"),
        ("q", "que"),
        ("textos", "mensajes"),
    ],
    classes: &[
        ("cease", "deje dejen deja dejar dejes dejad pare paren para parar cese cesen cesar"),
        (
            "halt",
            "pare paren parar cese cesen cesar detengan detenga detener suspendan suspenda suspender desactiven desactivar desactive apaguen",
        ),
        (
            "send",
            "enviarme mandarme escribirme textearme molestarme contactarme mensajearme enviar mandar escribir molestar \
                  textear contactar acosarme enviarnos mandarnos texteandome enviando mandando escribiendo molestando",
        ),
        (
            "dont",
            "manden mande mandes envien envie envies escriban escriba escribas texteen textee textees contacten contacte \
                  contactes molesten moleste molestes mensajeen acosen busquen",
        ),
        ("messages", "mensajes mensaje notificaciones avisos recordatorios alertas spam notificacion"),
        (
            "det",
            "los las estos estas esos esas sus mas todos todas tantos tantas de mis el la este esta ese por texto mas su",
        ),
        (
            "off",
            "quitenme quiteme quitame quita quiten quite saquenme saqueme sacame borrenme borreme borrame eliminenme \
                 elimineme eliminame remuevanme remuevame retirenme retireme desuscribanme desuscribame",
        ),
        ("after", "por favor gracias ya ahora mas nunca porfavor inmediatamente a este numero mi celular telefono"),
        ("time", "antes despues hasta durante entre mientras"),
    ],
    always: &[
        "dejenme|dejame|dejeme en paz",
        "como puedo|hago|se ?para ?dejar|cancelar|parar ?de ?recibir ?<det> ?<det> <messages>",
    ],
    asks: &[
        // To end the sending.
        "<cease> de <send>",
        "<cease> con|de ?<det> ?<det> <messages>",
        "<halt> ?<det> ?<det> <messages>",
        "dejar de recibir ?<det> ?<det> <messages>",
        // Not to be written to.
        "no me|nos <dont> ?<det> ?<det> <messages>",
        "no me|nos <dont> mas",
        "no me|nos <dont> ?por ?favor ?gracias $",
        "no me|nos vuelvan|vuelva|vuelvas|sigan|siga a|escribiendo|mandando|enviando|molestando|contactando|texteando ?escribir|enviar|mandar|contactar|textear|molestar",
        "no ?por ?favor <dont>|enviar|mandar ?me mas ?<det> ?<messages>",
        "no quiero|deseo|queremos|deseamos ?que ?me ?seguir ?recibir|recibiendo|envien|manden|escriban|mas ?<det> ?<det> <messages>",
        "no quiero|deseo ?mas que ?me ?nos escriban|contacten|texteen|molesten|manden|envien ?mas ?<messages> ?<after> ?<after> $",
        "no quiero|deseo ?ser ?seguir contactado|contactada|siendo ?contactado|contactada",
        "ya no quiero ?recibir|mas ?<det> <messages>",
        "^ ?por ?favor ?ya no mas ?<det> <messages> ?<after> ?<after> $",
        "no ?me necesito|interesan ?recibir ?<det> ?<det> <messages>",
        "no me|nos <dont> nada ?<after> ?<after> $",
        "no <dont> ?<after> ?<after> $",
        "no autorizo|autorice|acepto|acepte|solicite|pedi ?recibir ?<det> ?<det> <messages>",
        // To be taken off a list.
        "<off> ?por ?favor de ?la|su|esta|sus|las|esa lista|listas|base|mensajes",
        "<off>|eliminen|elimine|borren|borre|eliminar|borrar mi|este numero ?de ?telefono ?<after> ?<after> $",
        "<off>|eliminen|elimine|borren|borre|eliminar|borrar mi|este numero de ?la|su|esta|sus lista|base|sistema|contactos",
        "denme|deme|dame|darme|dar|darnos de baja ?<after> ?<after> $",
        "denme|deme|dame|darme|dar|darnos de baja de|del ?<det> <messages>|lista|servicio",
        "^ baja ?<after> ?<after> $",
        "salir|salirme de la|su|esta lista",
        "quitar|quitarme|sacar|sacarme|borrar|borrarme|eliminar|eliminarme ?me de la|su|esta lista",
        "desuscribirme|desuscribir|desuscribanme|desuscribame|desinscribirme",
        "cancelar|cancele|cancelen|cancela|cancelo ?<det> ?<det> <messages>|suscripcion",
        "cancelar|cancele|cancelen ?mi|la suscripcion",
        // To have been taken for somebody else.
        "^ ?perdon ?disculpe ?disculpa ?lo ?siento ?creo ?que ?este ?es ?tiene ?tienen ?el ?un numero equivocado|incorrecto ?<after> ?<after> $",
        "se equivoco|equivocaron|equivocan|equivocado de numero|persona",
        "tiene|tienen ?el numero equivocado",
        "no soy esa|la persona",
        "basta|harto|harta|cansado|cansada ?ya ?de ?con ?<det> ?<det> <messages>",
    ],
    unless: &[
        "no <cease>",
        "no quiero|quisiera|deseo|queremos ?que dejar|dejen|paren|cancelen|desactiven",
        "nunca dejen|deje|paren",
        "no cancelen|cancele|borren|borre|quiten|quite|desactiven",
        "^ ?y por que|cuando|quien|debo|puedo|tengo|deberia|podria|donde",
        "<time> de|las|el|la|del|que *2 <digit>|noche|trabajo|manana|mediodia|lunes|martes|miercoles|jueves|viernes|sabado|domingo",
        "en la|las|el noche|noches|trabajo|madrugada",
        "los domingos|sabados|fines",
        "por correo|email|fax",
        "di|dio|dimos|marque|llame|tengo|tenia|anote|escribi ?el ?un ?mal numero equivocado|incorrecto",
        "de tomar|fumar|comer|usar",
        "si dejan|dejo|deja|paran",
        "dejaron|deje|dejo yo",
    ],
    bare: "alto parar pare paren basta detener detenganse stop baja cancelar",
    polite: "por favor ya gracias ahora mismo inmediatamente todo esto eso de una vez si",
};
